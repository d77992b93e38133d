"""Images and class numbers into a model, and a model into images. Knows no bytes and no label's name."""
