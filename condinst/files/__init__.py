"""The one way in for files from outside: bounded first, then read, faults in one sentence.

A file may ask for any amount of memory: by its length, by nesting, by pixels that a header states,
by compression. Each reader here looks at what is asked for before it gives it, and whatever the
libraries below raise leaves as a :class:`condinst.errors.UserError` that names file and place.
Nothing here imports torch.
"""
