"""From a trained module to a file that runs on a device.

ONNX export and parity, FP16 and INT8 files, engines, and measurements. Nothing here knows how the module was
trained; every function takes modules, arrays, paths and numbers.
"""
