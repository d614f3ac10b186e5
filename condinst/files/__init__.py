"""The only way to open files from outside: first bounded, then read, errors in one sentence.

A file may ask for any amount of memory: by its length, by nesting, by the pixels in its header,
by compression. Each reader here checks the amount before it allocates it, and whatever the
underlying libraries raise becomes a :class:`condinst.errors.UserError` that names file and place.
Nothing here imports torch.
"""
