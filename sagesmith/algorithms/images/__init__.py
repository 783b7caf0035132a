"""images: what the three vision algorithms share about pictures: reading them, augmenting them, making batches.

    pictures = recorded(channels["train"])                      .rec files, in File or Pipe mode
    loader = Loader(pictures, transform, 32, (224, 224, 3), seed=1, shuffle=True)
    for batch in loader.epoch(0):
        batch.images, batch.targets

Each part has a file: `pictures.py` (random access), `streams.py` (pipes), `opening.py` (channels), `augmentation.py`,
`boxes.py` (detection), `scenes.py` (segmentation), `loader.py`, `requests.py`.
"""
