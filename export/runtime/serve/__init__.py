"""A bundle behind HTTP: the Open Inference Protocol v2, photos in and labels out, and figures for Prometheus.

`main.main` is the command. What a request means is decided by pure functions: `http` (bytes to a request), `tensors`
(bodies to the engine's input, logits to an answer), `routes` (which of them). `connection` and `server` do the sockets,
in one thread; `worker` runs the engine, in another; `releases` follows what an install lets serve. Python 3.8, standard
library and numpy; Pillow where photos are sent.
"""

COMMAND = "serve"
"""What `main.main` runs."""
