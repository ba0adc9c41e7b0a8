# The library against a daemon that goes away at any point of a request; linked statically, so that its malloc can fail.
foreach(what end resume wait)
  mempool_test(test_client_${what} SOURCES test_client_${what}.c
    LIBS mempool-client-static mempool_fake_daemon mempool_fault mempool_proto LABELS unit concurrent)
endforeach()
target_link_options(test_client_end PRIVATE -Wl,--wrap=mapping_open,--wrap=stream_connect)

# The library's parts that stand alone: their sources, for the library exports only its public calls.
set(heap_sources ${PROJECT_SOURCE_DIR}/client/heap.c ${PROJECT_SOURCE_DIR}/client/shelf.c ${PROJECT_SOURCE_DIR}/client/lease_map.c
  ${PROJECT_SOURCE_DIR}/tests/lib/grantor.c)
mempool_test(test_heap SOURCES test_heap.c ${heap_sources} LIBS mempool_flags LABELS unit concurrent)
mempool_test(test_shelf SOURCES test_shelf.c ${heap_sources} LIBS mempool_flags LABELS unit)
