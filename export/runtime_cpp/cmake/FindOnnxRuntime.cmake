# Finds ONNX Runtime and defines OnnxRuntime::OnnxRuntime.
#
# ONNXRUNTIME_INCLUDE  folder of onnxruntime_cxx_api.h; else the system's
# ONNXRUNTIME_LIBRARY  the shared library: of a release, of the system, or the one in Python's package
#                      (site-packages/onnxruntime/capi/libonnxruntime.so.X.Y.Z)
set(ONNXRUNTIME_INCLUDE "" CACHE PATH "folder of onnxruntime_cxx_api.h")
set(ONNXRUNTIME_LIBRARY "" CACHE FILEPATH "ONNX Runtime's shared library")

find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_cxx_api.h
  HINTS ${ONNXRUNTIME_INCLUDE} PATH_SUFFIXES onnxruntime onnxruntime/core/session)
if(ONNXRUNTIME_LIBRARY)
  set(OnnxRuntime_LIBRARY ${ONNXRUNTIME_LIBRARY})
else()
  find_library(OnnxRuntime_LIBRARY onnxruntime)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime REQUIRED_VARS OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR)

if(OnnxRuntime_FOUND AND NOT TARGET OnnxRuntime::OnnxRuntime)
  # The loader looks for the library's own name, libonnxruntime.so.1, which Python's package does not have as a file.
  get_filename_component(_folder ${OnnxRuntime_LIBRARY} REALPATH)
  get_filename_component(_name ${_folder} NAME)
  get_filename_component(_folder ${_folder} DIRECTORY)
  string(REGEX MATCH "^libonnxruntime\\.so\\.[0-9]+" _soname ${_name})
  if(_soname AND NOT EXISTS ${_folder}/${_soname})
    set(_link ${CMAKE_BINARY_DIR}/onnxruntime/${_soname})
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/onnxruntime)
    file(CREATE_LINK ${_folder}/${_name} ${_link} SYMBOLIC)
    set(OnnxRuntime_LIBRARY ${_link})
  endif()
  add_library(OnnxRuntime::OnnxRuntime SHARED IMPORTED)
  set_target_properties(OnnxRuntime::OnnxRuntime PROPERTIES IMPORTED_LOCATION ${OnnxRuntime_LIBRARY})
  target_include_directories(OnnxRuntime::OnnxRuntime SYSTEM INTERFACE ${OnnxRuntime_INCLUDE_DIR})
endif()
