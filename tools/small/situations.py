"""What people say of their day, and what a good listener answers: written by us, some ninety situations.

Comments of GoEmotions are written to strangers. Somebody who speaks into a camera says "my boss shouted at me in front
of everybody". Each situation holds things said, in other words with the same meaning, and replies that fit all of
them; a name in braces is drawn from :data:`SLOTS`, "my" in what is said and "your" in the reply. They teach replies,
emotions and polarity. A tenth of the situations is held out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Final

from nanoemox.data.manifest import ClosedLabels, ReplyLabels, Sample, Split, TextLabels
from nanoemox.tasks import LABEL_SETS
from nanoemox.types import Think
from tools.corpora.targets import conclusion, pick
from tools.small.replies import TONES

SLOTS: Final = {
    "kin": ("sister", "brother", "mother", "father", "grandmother", "best friend", "cousin", "aunt", "uncle"),
    "pet": ("dog", "cat", "rabbit", "parrot", "old horse"),
    "love": ("girlfriend", "boyfriend", "wife", "husband", "partner"),
    "chief": ("boss", "manager", "teacher", "coach", "supervisor", "professor"),
    "peer": ("neighbour", "colleague", "roommate", "landlord", "classmate"),
    "thing": ("phone", "laptop", "bike", "car", "wallet", "camera"),
    "dish": ("soup", "sandwich", "salad", "pizza", "curry", "pasta"),
    "test": ("driving test", "maths exam", "final exam", "language test", "entrance exam"),
    "place": ("kitchen", "bathroom", "hallway", "garage", "garden"),
    "day": ("today", "this morning", "yesterday", "last night", "on Monday", "this week"),
}
"""Name of a slot -> what may stand there."""
DRAWS: Final = 6
"""Samples a situation is drawn for each way to say it."""

SITUATIONS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "happy": (
        ("They hired me {day}!|They offered me the job {day}!|I start in the new job next month!",
         "Congratulations on the new job! You have worked for this. When do you start?|That is wonderful news about the "
         "job! All the applications paid off. How will you celebrate?"),
        ("I passed my {test}!|I got the result of my {test} {day}, and I passed.|My {test} went so well.",
         "Well done on your {test}! All that studying paid off. Who did you tell first?|You passed your {test}, how "
         "great! You can be proud of yourself. What will you do now that it is behind you?"),
        ("My {kin} is getting married, and I am so happy for them.|My {kin} told me {day} about the wedding!",
         "A wedding in the family, how lovely! Your {kin} must be glowing. When is the big day?|How exciting for your "
         "{kin}! It is sweet how happy you are for them. Will you have a part in the wedding?"),
        ("I am going to be an aunt, my {kin} is having a baby!|We are having a baby!|The baby is here and healthy!",
         "A baby, what wonderful news! I can hear how moved you are. How is everybody doing?|Congratulations on the "
         "baby! A whole new chapter begins. Have you thought of names?"),
        ("My {kin} came to visit {day} and surprised me, it was lovely.|It was so good to see my {kin} again.",
         "How lovely that your {kin} came! Time together is the best present. What did you two do?|You and your {kin} "
         "sound close. I am glad that you had that time. When will you meet again?"),
        ("We won the match {day}!|Our team won, we are in the final!|I scored the winning goal!",
         "You won, fantastic! The whole team must be over the moon. Who do you play next?|What a victory! I would have "
         "loved to see it. How did you celebrate?"),
        ("I love this song, it makes me want to dance.|I have been listening to this album all day, it is so good.",
         "Music like that lifts the whole day. What is the song called?|I can hear how much it moves you. Turn it up and "
         "dance! When did you discover it?"),
        ("Tomorrow I am going on holiday, I cannot wait!|We booked the trip, three weeks by the sea!",
         "A holiday, you have earned it! The anticipation is half the fun. Where are you going?|How exciting! Sun, rest and "
         "no alarm clock. What are you looking forward to most?"),
        ("Thank you so much, you really helped me.|I am so grateful for everything you did.|That was so kind of you.",
         "You are very welcome. It is good to hear that it helped. How do things look now?|That is kind of you to say. I am "
         "glad that it made a difference. Let me know how it goes on!"),
        ("The doctor says I am healthy again.|The tests {day} came back fine, I am cured!|The treatment worked.",
         "What a relief! Your health is back, and you can breathe again. How did it feel to hear it?|I am so glad that you "
         "are well! It has been a long road. What will you do first?"),
        ("My {love} proposed {day}, and I said yes!|We are engaged!|My {love} said yes!",
         "Congratulations on your engagement! You sound over the moon. How did it happen?|What a moment! I wish you and your "
         "{love} all the best. Have you told the family?"),
        ("I finished the marathon {day}.|I ran ten kilometres without a break!|I finally lost the weight I wanted to.",
         "What an achievement! You trained hard for that. How do your legs feel?|I am impressed! That took real "
         "discipline. What is your next goal?"),
        ("It is such a beautiful day, the sun is out.|I had the best weekend in a long time.|Today was a perfect day.",
         "Days like that do us good. What made it so special?|That sounds lovely, I can hear the sun in your voice. What did "
         "you do?"),
    ),
    "sad": (
        ("My {pet} died {day}.|I had to say goodbye to my {pet} {day}.|My {pet} is gone, and the house is so quiet.",
         "I am so sorry about your {pet}. They were family. What do you remember most fondly?|Losing your {pet} must hurt so "
         "much. Take all the time you need. How long were you together?"),
        ("My {kin} passed away {day}.|We buried my {kin} {day}.|I lost my {kin}, and I do not know how to go on.",
         "I am so sorry for your loss. Your {kin} meant a great deal to you. Would you like to tell me about them?|My "
         "condolences. Nothing prepares you for losing your {kin}. Who is with you now?"),
        ("My {love} left me {day}.|We broke up {day}, after four years.|My {love} does not love me any more.",
         "I am so sorry. After all that you shared, it must feel unreal. Do you have somebody to lean on?|A break-up hurts "
         "like few other things. You do not have to be strong today. What happened?"),
        ("I did not get the job.|They gave the job to somebody else.|Another rejection {day}, I have stopped counting.",
         "I am sorry about the job. You had put so much hope into it. Did they tell you why?|Rejections wear one down. It does "
         "not mean that you are not good enough. Do you want to talk it over?"),
        ("I failed my {test}.|I studied for weeks, and I still failed my {test}.|My {test} was a disaster.",
         "I am sorry about your {test}. After so much work it must be a blow. Can you take it again?|Failing your {test} hurts, "
         "and it says nothing about your worth. What was the hardest part?"),
        ("I feel so alone.|Nobody called me on my birthday.|I have no friends in this city.|I sit at home every evening.",
         "That sounds lonely, and I am glad that you tell me. When did it start?|Being alone that much is hard. You deserve "
         "people around you. Is there somebody you could call?"),
        ("I miss my {kin} so much.|It is the first holiday without my {kin}.|I wish my {kin} were here.",
         "I can hear how much you miss your {kin}. What would you tell them now?|Missing your {kin} shows how close you are. "
         "What did you love to do together?"),
        ("I was fired {day}.|I lost my job after twelve years.|The company is closing, and we are all out of work.",
         "I am so sorry about your job. It takes away more than the pay. How are you holding up?|Losing your work like that is "
         "a shock. You do not have to have a plan {day0}. What do you need most?"),
        ("My {kin} is very ill.|My {kin} is in hospital again.|The doctors cannot do anything more for my {kin}.",
         "I am so sorry about your {kin}. It is hard to watch somebody you love suffer. How are you coping?|That is heavy news "
         "about your {kin}. You do not have to carry it alone. Can you be with them?"),
        ("I cannot stop crying.|I do not enjoy anything any more.|Everything feels empty.|I am so tired of it all.",
         "That sounds so heavy. Thank you for trusting me with it. How long have you felt like this?|I am sorry that it is so "
         "dark right now. You matter. Have you told anybody close to you, or a doctor?"),
        ("My best friend is moving abroad.|My children have moved out, and the house is empty.|We had to sell the house.",
         "That is a real goodbye, no wonder it makes you sad. What will you miss most?|Such changes leave a hole. Give "
         "yourself time. How can you stay in touch with what you love?"),
        ("Everybody forgot my birthday.|They all went without me.|I was not invited.",
         "Being left out like that hurts. You deserved better. Have you told them how it felt?|I am sorry that nobody thought of "
         "you. I would be sad as well. Was there anybody you hoped for most?"),
    ),
    "angry": (
        ("My {chief} shouted at me in front of everybody.|My {chief} blamed me for a mistake that was not mine.",
         "That was not right of your {chief}. Nobody should be treated like that in front of others. What would you like to "
         "say to them?|No wonder you are angry! Your {chief} should have talked to you in private. What happened before?"),
        ("My {peer} was playing music until three in the morning again.|My {peer} never stops making noise.",
         "Night after night without sleep, I would be furious as well. Have you talked to your {peer}?|Your {peer} has no "
         "consideration at all. You have a right to your sleep. What have you tried so far?"),
        ("Somebody stole my {thing} {day}.|They broke into the car and took my {thing}.|My {thing} was stolen!",
         "Stolen, how infuriating! You must feel wronged. Have you gone to the police?|What a nerve to take your {thing}! I "
         "understand your anger. Was there anything on it that you cannot replace?"),
        ("He lied to me the whole time.|She lied straight to my face.|They promised me something else.",
         "To be lied to like that makes one furious, and rightly so. How did you find out?|Trust is broken so quickly. You "
         "have every right to be angry. Have you told them that you know?"),
        ("My {love} cheated on me.|My {love} has been seeing somebody else for months.",
         "What a betrayal! You have every reason to be furious with your {love}. How did you learn of it?|That is a terrible "
         "breach of trust. Your anger makes sense. What do you need right now?"),
        ("I have told you a hundred times not to do that!|Stop it, leave me alone!|Get out of here!|How dare you!",
         "I hear you, you want it to stop. What went too far?|You are right to draw a line. What should be different from now "
         "on?"),
        ("The train was late again, and I missed my appointment.|They cancelled my flight without a word.",
         "How annoying! Your time counts as well. Did you still get where you had to be?|Being left standing like that would "
         "make me angry too. Did anybody apologise?"),
        ("They charged me twice, and nobody answers the phone.|I have been on hold for two hours.",
         "Two hours for their own mistake, that is outrageous. Did you get through in the end?|That is no way to treat a "
         "customer. I understand your anger. What would put it right?"),
        ("My {peer} took the credit for my work.|My {peer} stole my idea and presented it as theirs.",
         "That is so unfair! It was your work. Does anybody know that it was yours?|No wonder you are angry with your {peer}. "
         "That idea was yours. How will you bring it up?"),
        ("Nobody ever listens to me.|They make all the decisions over our heads.|It is always me who has to clean up.",
         "Being ignored again and again makes one angry. What should they finally hear?|That is not fair to you. You count as "
         "much as the others. Have you told them so?"),
        ("Somebody scratched my car and just drove off.|A driver almost hit me and then yelled at me.",
         "And then simply drives off! I would be furious. Did you see the plate?|How reckless! You have every right to be angry. "
         "Are you all right?"),
        ("You are late again, I waited for an hour.|You let me wait in the rain for an hour, and you did not even call.",
         "You were let down again, and that makes you angry. What would you have needed?|Waiting like that feels as if you do "
         "not matter. I understand that you have had enough. What should happen now?"),
    ),
    "fearful": (
        ("I have to see the doctor tomorrow, and I am scared of the result.|I found a lump, and I am terrified.",
         "Waiting for a result is frightening. Whatever it is, you will not face it alone. Can somebody come with you?|I "
         "understand your fear. Not knowing is the worst part. When will you hear more?"),
        ("There is somebody outside the window!|I heard steps in the house {day}.|Somebody is following me.",
         "That is frightening! Please go where it is safe and bright. Are you alone right now?|Your safety comes first. Can "
         "you call somebody, or the police? Where are you?"),
        ("I am so nervous about my {test}.|What if I fail my {test}?|I cannot sleep, my {test} is tomorrow.",
         "It is natural to be nervous before your {test}. You have prepared for it. What worries you most?|Take a slow breath. "
         "One question after the other. What would help you to sleep tonight?"),
        ("I am afraid that I will lose my job.|They are letting people go, and I think I am next.",
         "Such uncertainty is hard to bear. Have you heard anything definite?|I can hear how worried you are about your job. "
         "What would your first step be if it came to that?"),
        ("I am scared of flying.|The plane was shaking so badly, I thought we would crash.|I panic in lifts.",
         "That sounds terrifying, your body goes into alarm. What helps you to calm down?|A fear like that is stronger than "
         "reason. You are safe now. Shall we breathe slowly together?"),
        ("My {kin} is not answering the phone, and it is late.|My {kin} should have been home hours ago.",
         "No wonder you are worried about your {kin}. Where did they want to go?|The waiting is dreadful. There is often a "
         "simple reason. Who else could know where your {kin} is?"),
        ("I have to speak in front of two hundred people.|My hands are shaking, I am on in five minutes.",
         "Stage fright means that it matters to you. Breathe out slowly. What is your first sentence?|Two hundred pairs of eyes "
         "would scare me too. They want you to succeed. What are you most afraid of?"),
        ("I had that nightmare again.|I do not dare to go out in the dark.|Please do not leave me alone here.",
         "That sounds frightening. I am here and listening. What happens in it?|You do not have to be brave right now. What "
         "would make you feel safer?"),
        ("I do not know how to pay the rent.|What if the money is not enough for the winter?",
         "Worries about money keep one awake. You are not alone with it. When is it due?|I can hear how anxious you are. Shall we "
         "look at it one step at a time? What is most urgent?"),
        ("Look out, there is a snake!|Help, it is coming towards us!|Do not go in there, it is dangerous!",
         "Get back slowly and stay safe! Is everybody all right?|That is scary! Keep your distance. Can you get away?"),
        ("I am worried about my {kin}.|My {kin} has been so strange lately, and I am afraid for them.",
         "You care about your {kin} a lot, and the worry shows it. What have you noticed?|It is hard to watch and not to know. "
         "Have you been able to ask your {kin}?"),
    ),
    "disgust": (
        ("There was a hair in my {dish}.|I found a worm in my {dish}.|The {dish} smelled rotten.",
         "Ugh, in your {dish}! My appetite would be gone as well. Did you send it back?|How revolting! Nobody wants to find "
         "that in their {dish}. What did the staff say?"),
        ("The {place} is full of cockroaches.|There is mould all over the {place}.|Something died in the {place}.",
         "That is disgusting, no wonder that you do not want to go in there. Can somebody come and clean the {place}?|Ugh! I "
         "would not want to touch anything either. Who is responsible for the {place}?"),
        ("He chews with his mouth open, I cannot look.|She spat on the floor right next to me.",
         "Ugh, that turns one's stomach. Could you move away?|That is really unpleasant to watch. Did anybody say anything?"),
        ("This milk is sour, yuck.|I bit into a rotten apple.|That tastes awful, I have to spit it out.",
         "Yuck! Rinse your mouth with something nice. How do you feel now?|How nasty! That taste stays for hours. Is your stomach "
         "all right?"),
        ("The toilet on the train was filthy.|The hotel bed was full of stains.|The bin stinks to high heaven.",
         "That is revolting. You must have wanted to run. What did you do?|I feel itchy only hearing about it. Did you complain?"),
        ("What those people did to the animals makes me sick.|The way he talks about women is disgusting.",
         "It is sickening, and I understand that you turn away. How did you hear about it?|Your disgust shows where you stand. "
         "What would you like to see happen?"),
        ("My {peer} never washes, the smell is unbearable.|My {peer} leaves dirty plates until they grow fur.",
         "Ugh, living next to that is hard to stomach. Have you told your {peer}?|That would put me off as well. What would be a "
         "fair rule for both of you?"),
        ("I stepped into something slimy with my bare foot.|There was vomit all over the seat.",
         "Eww! I hope that there was a shower close by. Are you clean again?|How gross! I would have jumped. What was it?"),
        ("I cannot watch this, it is gross.|All that blood, I have to look away.|That picture is repulsive.",
         "Look away, nobody has to see that. Shall we talk of something nicer?|I understand, some pictures turn the stomach. Where "
         "did you come across it?"),
    ),
    "surprised": (
        ("I cannot believe it, they threw a party for me {day}!|I opened the door, and everybody was there!",
         "What a surprise! And you had no idea at all? Who planned it?|I would have been speechless! What was the first thing "
         "that you said?"),
        ("You will not believe who I met {day}.|I ran into my {kin} at the airport, of all places!",
         "No! What are the odds? What did you say to each other?|Of all places, what a coincidence! How long has it been?"),
        ("Wait, what? You are kidding.|Seriously? I had no idea!|Oh my god, really?|What? Since when?",
         "It sounds as if you did not see that coming at all. What surprises you most?|Really! It takes a moment to sink in. "
         "How did you find out?"),
        ("My {kin} suddenly quit and moved to Iceland.|My {chief} just resigned, out of nowhere.",
         "Out of the blue like that! Did anybody expect it?|What a turn! I would have a hundred questions. Did they say why?"),
        ("There was ten times as much money in my account.|I won something for the first time in my life, I am stunned.",
         "You must have looked twice! Do you know how that happened?|I can hear that you are still stunned. What did you do first?"),
        ("It snowed in June!|The lights went out, and suddenly there was a huge bang.|A deer walked into the shop {day}.",
         "That is not something one sees every day! What did you do?|How extraordinary! I would have stared. Did anybody else "
         "see it?"),
        ("I found out that I have a half-brother.|My {kin} told me that I was adopted.",
         "What a discovery! Everything must look different now. How do you feel about it?|I would need to sit down first. How "
         "did you learn of it?"),
        ("How did you do that?|Where did that come from?|I never expected this from my {kin}.",
         "That caught you by surprise! What did you expect?|I would be just as amazed. What happened exactly?"),
        ("The price doubled over night, I could not believe my eyes.|They changed everything while I was away.",
         "That is quite a change! What did you think when you saw it?|I would not have expected that either. Did they explain it?"),
        ("He remembered my name after twenty years.|She speaks five languages, I had no idea.",
         "How remarkable! People are full of surprises. How did it come up?|I would not have guessed that either. What else did "
         "you learn?"),
    ),
    "neutral": (
        ("I went to the shop {day} and bought some bread.|I have to buy milk on the way home.",
         "A little errand, then. Did you get everything that you needed?|All right. And what else is on your list?"),
        ("The meeting is at ten in room four.|We moved the meeting to Thursday.|The report is due on Friday.",
         "Thank you, I have noted it. Is there anything to prepare?|All right, good to know. Who else will be there?"),
        ("I usually take the bus to work.|I get up at seven and make some tea.|On weekdays I cook at home.",
         "So that is your routine. What do you like about it?|I see, a steady rhythm. Has it always been like that?"),
        ("Kids are talking by the door.|Dogs are sitting by the door.|The keys are on the table.|The window is open.",
         "I see. Is there something about it that you have in mind?|All right. And what do you see besides?"),
        ("I am reading a book about the history of trains.|I watched a documentary about bees {day}.",
         "That sounds interesting. What did you learn from it?|A good choice. What made you pick it?"),
        ("My {kin} lives near the station.|My {kin} works in a bank.|I have two brothers and a sister.",
         "I see. Do you meet often?|Thank you for telling me. What are they like?"),
        ("Turn left at the next corner, then it is straight on.|The library closes at six.|It takes twenty minutes.",
         "Thank you, that is clear. Do you go there often?|Good to know. Is there anything else to watch out for?"),
        ("I do not mind, we can do either.|It is fine with me.|I think it could work, let us see.|Maybe later.",
         "You sound relaxed about it. Which one would you lean to?|All right, we can leave it open. What matters to you in it?"),
        ("The weather is supposed to be cloudy.|It will be about fifteen degrees tomorrow.",
         "Nothing special, then. Do you have plans for the day?|Good to know. Does it change anything for you?"),
        ("I talked to the landlord about the contract.|I called the office, they will send the form.",
         "So that is under way. What is the next step?|All right. Are you satisfied with what was said?"),
    ),
}  # fmt: skip


def split_of(feeling: str, at: int) -> Split:
    """Hold a tenth of the situations out, whole."""
    digest = hashlib.sha1(f"{feeling}/{at}".encode(), usedforsecurity=False).hexdigest()
    return "validation" if int(digest, 16) % 10 == 0 else "train"


def situations() -> Iterator[Sample]:
    """Yield each situation as a reply, an emotion and an explanation, its slots filled in several ways."""
    for feeling, found in SITUATIONS.items():
        for at, (said, replies) in enumerate(found):
            yield from _drawn(feeling, at, said.split("|"), replies.split("|"))


def _drawn(feeling: str, at: int, said: list[str], replies: list[str]) -> Iterator[Sample]:
    tone, closing = TONES[feeling], conclusion(feeling)
    texts: set[str] = set()
    for turn in range(DRAWS * len(said)):
        key = f"situation-{feeling}-{at}-{turn}"
        slots = {name: words[pick(f"{key}/{name}", len(words))] for name, words in SLOTS.items()}
        text = said[turn % len(said)].format(**slots)
        if text in texts:
            continue
        texts.add(text)
        reply = replies[pick(f"{text}/reply", len(replies))].format(**slots, day0="today")
        # The reply may name only what was said: another way to say it may have no slot.
        if any(slots[n] not in text and slots[n] in reply for n in re.findall(r"{(\w+)}", "".join(replies)) if n in slots):
            continue
        think = Think(scenario="the person talks about how they are doing", emotion=tone.feeling,
                      cause="what they tell", goal=tone.goal)  # fmt: skip
        named = ClosedLabels(label=feeling, candidates=LABEL_SETS["ravdess"])
        shared = {"corpus": "situations", "split": split_of(feeling, at), "subtitle": text}
        yield Sample(id=f"{key}-erg", task="erg", labels=ReplyLabels(think=think, reply=reply), **shared)
        yield Sample(id=f"{key}-mer", task="mer", labels=named, **shared)
        yield Sample(id=f"{key}-eri", task="eri", labels=TextLabels(text=closing, parts={}, conclusion=closing), **shared)
