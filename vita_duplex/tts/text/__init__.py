"""From a model's text to what a voice can say."""
