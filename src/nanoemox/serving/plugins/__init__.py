"""Where live speech is built: readings of the speaker inside LiveKit Agents and Pipecat."""
