# Finds TensorRT or TensorRT-RTX, and the CUDA runtime, and defines TensorRT::TensorRT and TensorRT_BACKEND.
#
# TENSORRT_INCLUDE  folder of NvInferRuntime.h; else the system's
# TENSORRT_LIBRARY  libnvinfer.so or libtensorrt_rtx.so; its name says which of the two it is
# CUDART_INCLUDE    folder of cuda_runtime_api.h
# CUDART_LIBRARY    libcudart.so
set(TENSORRT_INCLUDE "" CACHE PATH "folder of NvInferRuntime.h")
set(TENSORRT_LIBRARY "" CACHE FILEPATH "libnvinfer.so or libtensorrt_rtx.so")
set(CUDART_INCLUDE "" CACHE PATH "folder of cuda_runtime_api.h")
set(CUDART_LIBRARY "" CACHE FILEPATH "libcudart.so")

find_path(TensorRT_INCLUDE_DIR NvInferRuntime.h HINTS ${TENSORRT_INCLUDE})
find_path(TensorRT_CUDA_INCLUDE_DIR cuda_runtime_api.h HINTS ${CUDART_INCLUDE} PATHS /usr/local/cuda/include)
if(TENSORRT_LIBRARY)
  set(TensorRT_LIBRARY ${TENSORRT_LIBRARY})
else()
  find_library(TensorRT_LIBRARY NAMES nvinfer tensorrt_rtx)
endif()
if(CUDART_LIBRARY)
  set(TensorRT_CUDA_LIBRARY ${CUDART_LIBRARY})
else()
  find_library(TensorRT_CUDA_LIBRARY cudart PATHS /usr/local/cuda/lib64)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TensorRT REQUIRED_VARS
  TensorRT_LIBRARY TensorRT_INCLUDE_DIR TensorRT_CUDA_LIBRARY TensorRT_CUDA_INCLUDE_DIR)

if(TensorRT_FOUND AND NOT TARGET TensorRT::TensorRT)
  get_filename_component(_name ${TensorRT_LIBRARY} NAME)
  set(TensorRT_BACKEND tensorrt)
  if(_name MATCHES "tensorrt_rtx")
    set(TensorRT_BACKEND tensorrt_rtx)
  endif()
  add_library(TensorRT::TensorRT INTERFACE IMPORTED)
  target_include_directories(TensorRT::TensorRT SYSTEM INTERFACE
    ${TensorRT_INCLUDE_DIR} ${TensorRT_CUDA_INCLUDE_DIR})
  target_link_libraries(TensorRT::TensorRT INTERFACE ${TensorRT_LIBRARY} ${TensorRT_CUDA_LIBRARY})
endif()
