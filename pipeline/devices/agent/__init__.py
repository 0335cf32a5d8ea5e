"""The device's side: plain files, Python 3.8 and its standard library, sent along as one archive.

Everything it writes lies under one work folder:

    agent/<sha256>.pyz      this program
    blobs/<sha256>          files that hosts sent; `<sha256>.part` is one on its way
    jobs/<job>/             one job: request, state, events, log, outcome and output files
    cache/                  what jobs keep on purpose between runs, such as TensorRT's timing cache
    lock                    held (flock) while a host works here; its text says who
"""
