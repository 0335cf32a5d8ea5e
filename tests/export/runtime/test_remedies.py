"""Protects: what is known of TensorRT's messages is one table, and every text that people reported finds its row."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.runtime.remedies import (
    REMEDIES,
    Skipped,
    remedy,
    skipped_tactics,
    understood,
    with_meaning,
)

# What the libraries wrote, in public reports unless marked; what it means; a word of the fix.
TEXTS = [
    # What the graph is.
    ("FP32 GEMM is not supported on Turing", "Turing", "FP16 file"),
    ("unsupported HW-specific datatypes: b16", "no BF16", "FP16 file"),
    ("Assertion failed: Non-zero zero point is not supported.", "ONNX Runtime's INT8 layout", "made for TensorRT"),
    ("zero_point has type Int32", "ONNX Runtime's INT8 layout", "made for TensorRT"),
    ('[8] Assertion failed: creator && "Plugin not found, are the plugin name, version, and namespace correct?"',
     "no such operator", "engine: onnxruntime"),
    ("INVALID_ARGUMENT: getPluginCreator could not find plugin NonZero version 1", "no such operator", "onnxruntime"),
    ("3: getPluginCreator could not find plugin: SequenceConstruct version: 1", "no such operator", "onnxruntime"),
    ("ERROR: onnxOpImporters.cpp:6119 In function importFallbackPluginImporter:", "no such operator", "onnxruntime"),
    ("No importer registered for op: Custom. Attempting to import as plugin.", "no such operator", "onnxruntime"),
    ("node a (operator Det): the operator is not supported", "no such operator", "onnxruntime"),
    ("Assertion failed: axes.isInt32() && must be a shape tensor", "computes shapes", "dynamic_batch: false"),
    ("[graphShapeAnalyzer.cpp::updateGraph::439] Error Code 2: Internal Error (Assertion n->getType() != "
     "NodeType::kSHAPE failed. )", "computes shapes", "dynamic_batch: false"),
    ("Assertion failed: sizeKnown(), file onnx-tensorrt/ShapeTensor.hpp, line 85", "computes shapes", "dynamic_batch"),
    ("it is not supported with shapes decided at run time", "computes shapes", "batch_sizes: [1]"),
    # Which GPU, which driver.
    ("CUDA initialization failure with error: 35. Please check your CUDA installation", "driver is too old", "580"),
    ("Cuda initialization failure with error 35. Please check cuda installation", "driver is too old", "525"),
    ("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version", "too old", "580"),
    ("Cuda initialization failure with error 100. Please check cuda installation", "no NVIDIA GPU", "--gpus all"),
    ("CUDA failed in cudaMalloc: cudaErrorNoDevice: no CUDA-capable device is detected", "no NVIDIA GPU", "driver"),
    ("CUDA initialization failure with error: 803", "different versions", "reboot"),
    ("CUDA initialization failure with error: 999. Please check your CUDA installation", "cannot be started",
     "nvidia-smi"),
    ("NvRmMemInitNvmap failed with Permission denied", "may not use", "usermod -aG video"),
    ("****NvRmMemInit failed**** error type: 196626", "may not use", "usermod -aG video"),
    ("1: [caskUtils.cpp::trtSmToCask::147] Error Code 1: Internal Error (Unsupported SM: 0x809)", "no kernels for this",
     "newer"),
    ("Assertion Error in trtSmToCask: 0 (Unsupported SM.)", "no kernels for this GPU", "newer"),
    ("Error Code 9: API Usage Error (Target GPU SM 120 is not supported by this TensorRT release.)",
     "no kernels for this GPU", "newer"),
    ("[utils.cpp::checkMemLimit::380] Error Code 2: Internal Error (Assertion upperBound != 0 failed. Unknown embedded "
     "device detected. Please update the table with the entry: {{1794, 6, 16}, 12660},)", "Jetson module", "JetPack"),
    # Memory.
    ("[virtualMemoryBuffer.cpp::resizePhysical::144] Error Code 2: OutOfMemory (no further information)",
     "memory ran out", "workspace_mb"),
    ("Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)", "memory ran out", "workspace_mb"),
    ("[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)", "memory ran out", "desktop"),
    ("Cuda Error in nvinfer1::internal::DefaultAllocator::allocate: 2 (out of memory)", "memory ran out", "desktop"),
    ("GPU memory allocation error during getBestTactic: conv0_fwd", "memory ran out", "swap"),
    ("Requested amount of GPU memory (15485030400 bytes) could not be allocated. There may not be enough free memory",
     "memory ran out", "close other programs"),
    ("autotuning: User allocator error allocating 15485030400-byte buffer", "memory ran out", "workspace_mb"),
    ("Skipping tactic 3 due to insuficient memory on requested size of 449 detected for tactic 4.", "memory ran out",
     "workspace_mb"),
    ("Tactic Device request: 448MB Available: 425MB. Device memory is insufficient to use tactic.", "memory ran out",
     "workspace_mb"),
    ("terminate called after throwing an instance of 'std::bad_alloc'", "memory ran out", "swap"),
    ("CUDA initialization failure with error: 2. Please check your CUDA installation", "memory ran out", "swap"),
    ("NvMapMemAllocInternalTagged: 1075072515 error 12", "in pieces", "reboot"),
    ("NvMapMemHandleAlloc: error 12", "in pieces", "reboot"),
    ("the build of orin/int8 was killed (137: usually out of memory)", "Linux ends a process", "swap"),
    ("exit code 137", "Linux ends a process", "swap"),
    ("Killed", "Linux ends a process", "swap"),
    ("write failed: No space left on device", "disk is full", "free some space"),
    # Kernels.
    ("conv1: insufficient workspace", "scratch memory", "raise workspace_mb"),
    ("Internal error: could not find any implementation for node conv0_fwd, try increasing the workspace size with "
     "IBuilder::setMaxWorkspaceSize()", "scratch memory", "raise workspace_mb"),
    ("Some tactics do not have sufficient workspace memory to run. Increasing workspace size may increase performance",
     "scratch memory", "leave it out"),
    ("Internal error: plugin node ScatterND_12 requires 36 bytes of scratch space, but only 0 is available.",
     "scratch memory", "raise workspace_mb"),
    ("IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation for node "
     "{ForeignNode[/1/Constant_36_output_0.../1/Slice_4]}.)", "no kernel fits", "precision.exclude"),
    # Libraries.
    ("Unable to load library: libnvinfer_lean.so.10", "lean runtime", "version_compatible: false"),
    ("ImportError: libnvdla_compiler.so: cannot open shared object file", "library of the Jetson", "dla-compiler"),
    ("libcudart.so.12: cannot open shared object file", "CUDA runtime is not", "nvidia-cuda-runtime"),
    ("libcuda.so.1: cannot open shared object file: No such file or directory", "no NVIDIA driver", "install"),
    ("Unable to load library: libnvinfer_builder_resource.so.10.7.0", "library of TensorRT", "LD_LIBRARY_PATH"),
    ("trtexec: error while loading shared libraries: libnvinfer.so.10: cannot open shared object file",
     "library of TensorRT", "nvidia-jetpack"),
    ("Unknown option: --skipInference", "another version", "same version"),
    # Engine files.
    ("[stdArchiveReader.cpp::StdArchiveReader::40] Error Code 1: Serialization (Serialization assertion "
     "stdVersionRead == serializationVersion failed.Version tag does not match. Note: Current Version: 213, "
     "Serialized Engine Version: 205)", "another version of TensorRT", "build it again"),
    ("coreReadArchive.cpp (38) - Serialization Error in verifyHeader: 0 (Version tag does not match)",
     "another version of TensorRT", "build it again"),
    ("The engine plan file is not compatible with this version of TensorRT, expecting library version 8.5.2.2 got "
     "8.6.1.6, please rebuild.", "another version of TensorRT", "--force build"),
    ("The engine plan file is generated on an incompatible device, expecting compute 8.6 got compute 7.5, please "
     "rebuild.", "another kind of GPU", "--force build"),
    ("Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed.Magic tag does not match)",
     "damaged", "--force build"),
    ("[runtime.cpp::deserializeCudaEngine::66] Error Code 4: Internal Error (Engine deserialization failed.)",
     "cannot be read", "--force build"),
    # CUDA.
    ("CUDA failed in cudaStreamSynchronize: an illegal memory access was encountered", "failed on the GPU", "dmesg"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "means", "fix"), TEXTS, ids=[text[:40] for text, _, _ in TEXTS])
def test_every_reported_text_has_its_remedy(text: str, means: str, fix: str) -> None:
    found = remedy(text)
    assert found is not None and means in found.means and fix in found.fix
    assert remedy(text.upper()) is found


def test_every_row_is_the_first_for_some_text() -> None:
    """A row that another one hides helps nobody."""
    assert {id(remedy(text)) for text, _, _ in TEXTS} == {id(row) for row in REMEDIES}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Engine could not be created from network",
        "trtexec ended with exit code 1",
        "[tacticOptimizer.cpp::computeCosts::137] Error Code 2: Internal Error (Assertion x failed.)",
        "Detected layernorm nodes in FP16.",
        "the device has 400 MiB of memory free (100 MiB of it swap), a build needs about 800 MiB",
    ],
)
def test_what_says_nothing_gets_no_remedy(text: str) -> None:
    """A wrong advice is worse than none."""
    assert remedy(text) is None and with_meaning(text, None) == text


def test_memory_elsewhere_explains_a_failure_that_only_followed() -> None:
    """NVIDIA/TensorRT#4258: the last error speaks of a missing implementation, the cause is a warning before it."""
    failed = "Could not find any implementation for node {ForeignNode[a...b]}"
    skipped = "Tactic Device request: 600MB Available: 302MB. Device memory is insufficient to use tactic."
    found = understood([failed], [skipped])
    assert found is not None and found.kind == "memory"
    alone = understood([failed], ["Detected layernorm nodes in FP16."])
    assert alone is not None and alone.kind == "failed"
    other = understood(["Plugin not found"], [skipped])
    assert other is not None and "operator" in other.means, "a warning does not explain what is plain"
    unknown = understood(
        ["the library gave no reason"], ["libnvinfer_lean", "NvMapMemAllocInternalTagged: 1 error 12"]
    )
    assert unknown is not None and "in pieces" in unknown.means


def test_every_row_says_what_to_do_in_words() -> None:
    for row in REMEDIES:
        assert row.means and row.fix and row.kind in ("memory", "failed")
        assert not row.fix.endswith(".") and "rm -" not in row.fix


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(list(string.printable)), max_size=3000))
def test_no_text_is_too_much(text: str) -> None:
    """Whatever a device sends is looked through, and nothing is raised."""
    found = remedy(text)
    assert found is None or re.search(found.pattern, text)
    skipped = skipped_tactics(text.splitlines())
    assert skipped is None or skipped.tactics >= 1


_8_0 = """\
Tactic Device request: 448MB Available: 425MB. Device memory is insufficient to use tactic.
Skipping tactic 3 due to insuficient memory on requested size of 448 detected for tactic 4.
Try decreasing the workspace size with IBuilderConfig::setMaxWorkspaceSize().
Tactic Device request: 461MB Available: 427MB. Device memory is insufficient to use tactic.
Skipping tactic 3 due to insuficient memory on requested size of 461 detected for tactic 4.
"""
_10 = """\
[10/01/2025-08:26:34] [W] [TRT] UNSUPPORTED_STATE: Skipping tactic 33 due to insufficient memory on requested size of \
629145600 detected for tactic 0xa5a46bfbd719d757.
[10/01/2025-08:26:34] [W] [TRT] Tactic Device request: 600MB Available: 302MB. Device memory is insufficient to use \
tactic.
"""


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", None),
        ("Detected layernorm nodes in FP16.\nEngine built in 1.1 sec.", None),
        (_8_0, Skipped(2, 461)),
        (_10, Skipped(1, 600)),
        ("UNSUPPORTED_STATESkipping tactic 4 due to insufficient memory on requested size of 66048 found", Skipped(1)),
        ("Skipping tactic 0x0000000000000000 due to exception [tunable_graph.cpp:create:117] autotuning: User "
         "allocator error allocating 15485030400-byte buffer", Skipped(1, 14767)),
        ("Skipping tactic 0x0000000000000000 due to exception Myelin error: unsupported type", None),
        ("Some tactics do not have sufficient workspace memory to run. Increasing workspace size may increase "
         "performance, please check verbose output.", Skipped(1, 0, by_workspace=True)),
        (_10 + "Some tactics do not have sufficient workspace memory to run.", Skipped(1, 600)),
        ("Tactic Device request: " + "9" * 400 + "MB Available: 1MB.", Skipped(1, 1 << 24)),
    ],
)  # fmt: skip
def test_skipped_tactics_are_counted(log: str, expected: Skipped | None) -> None:
    """Each once, though the library says most of them twice; those that memory has nothing to do with, not at all."""
    assert skipped_tactics(log.splitlines()) == expected
