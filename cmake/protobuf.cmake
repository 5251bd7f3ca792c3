# C code of the schema, into the build folder: include "proto/NAME.pb-c.h".
find_program(PROTOC_C protoc-c REQUIRED)
set(DRAY_GENERATED ${CMAKE_BINARY_DIR}/generated)
file(MAKE_DIRECTORY ${DRAY_GENERATED}/proto)
set(DRAY_SCHEMA_SOURCES)
foreach(schema graph op table wire)
  set(out ${DRAY_GENERATED}/proto/${schema}.pb-c)
  add_custom_command(
    OUTPUT ${out}.c ${out}.h
    COMMAND ${PROTOC_C} --c_out=${DRAY_GENERATED} -I${CMAKE_SOURCE_DIR} proto/${schema}.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/proto/${schema}.proto ${CMAKE_SOURCE_DIR}/proto/graph.proto
    WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  list(APPEND DRAY_SCHEMA_SOURCES ${out}.c ${out}.h)
endforeach()
