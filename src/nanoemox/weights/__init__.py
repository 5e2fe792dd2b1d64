"""How a model directory comes to be: public parts are fetched, checked, converted and put together."""
