# Fetches ONNX Runtime's C++ headers where no package of the system has them:
#
#     cmake [-DTO=FOLDER] [-DARCHIVE=FILE] -P fetch_onnxruntime_headers.cmake
#
# TO       where the headers are written; default: ~/.cache/figkd/onnxruntime
# ARCHIVE  the archive, where it was downloaded before
#
# They come from an npm package with the headers of API 29, unchanged (MIT); it is large, since it also holds the library
# for telephones. The library that is linked has to be of version 1.29 or newer. The archive's digest is pinned.
cmake_minimum_required(VERSION 3.18)

set(URL https://registry.npmjs.org/com.github.asus4.onnxruntime/-/com.github.asus4.onnxruntime-0.4.9.tgz)
string(CONCAT DIGEST
  064cf176e499f4891e0cfe90f25cf64c553689eee1492bd2ed921fccca28131a
  2ad02373267bae19a509ec8b288c182a3b8a2e0f58d76a1f0e63225b08ddbd16)
set(INSIDE "package/Plugins/iOS~/onnxruntime.xcframework/ios-arm64/onnxruntime.framework/Headers")

if(NOT TO)
  set(TO $ENV{HOME}/.cache/figkd/onnxruntime)
endif()
get_filename_component(TO "${TO}" ABSOLUTE)
if(EXISTS "${TO}/onnxruntime_cxx_api.h")
  message(STATUS "the headers are in ${TO}")
  return()
endif()

set(work "${TO}.part")
file(REMOVE_RECURSE "${work}")
file(MAKE_DIRECTORY "${work}")
if(NOT ARCHIVE)
  message(STATUS "downloading 150 MB from ${URL}")
  set(ARCHIVE "${work}/archive.tgz")
  file(DOWNLOAD ${URL} "${ARCHIVE}" EXPECTED_HASH SHA512=${DIGEST} TLS_VERIFY ON SHOW_PROGRESS STATUS status)
  list(GET status 0 code)
  if(code)
    file(REMOVE_RECURSE "${work}")
    message(FATAL_ERROR "the download failed: ${status}")
  endif()
endif()
get_filename_component(ARCHIVE "${ARCHIVE}" ABSOLUTE)
file(SHA512 "${ARCHIVE}" found)
if(NOT found STREQUAL DIGEST)
  file(REMOVE_RECURSE "${work}")
  message(FATAL_ERROR "${ARCHIVE} is not the archive that is expected: its SHA-512 differs")
endif()
file(ARCHIVE_EXTRACT INPUT "${ARCHIVE}" DESTINATION "${work}" PATTERNS "${INSIDE}/*")
file(REMOVE_RECURSE "${TO}")
file(RENAME "${work}/${INSIDE}" "${TO}")
file(REMOVE_RECURSE "${work}")
message(STATUS "the headers are in ${TO}; give cmake -DONNXRUNTIME_INCLUDE=${TO}")
