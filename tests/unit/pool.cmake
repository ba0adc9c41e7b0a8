foreach(noun backing budget directory lease lease_hostile pool pool_block pool_model pool_picture quota recover registry registry_kill
    registry_lost registry_recover segment slab_orphan)
  mempool_test(test_${noun} SOURCES test_${noun}.c LIBS mempool_pool LABELS unit)
endforeach()
# Whatever is done in steps, whichever way it is cut.
foreach(noun lease lease_hostile pool_picture slab_orphan slab_recall)
  mempool_test(test_${noun}_hasty SOURCES test_${noun}.c $<TARGET_OBJECTS:mempool_pool_hasty> LIBS mempool_pool LABELS unit)
endforeach()
foreach(call shm_open shm_unlink ftruncate posix_fallocate mmap)
  target_link_options(test_registry_kill PRIVATE -Wl,--wrap=${call})
endforeach()
mempool_test(test_pool_fault SOURCES test_pool_fault.c LIBS mempool_pool mempool_fault LABELS unit)
foreach(noun pool_threads slab_recall)
  mempool_test(test_${noun} SOURCES test_${noun}.c LIBS mempool_pool LABELS unit concurrent)
endforeach()

# The pool's code once more, so that each access to the lease segment calls the test: it can kill the daemon there.
get_target_property(pool_sources mempool_pool SOURCES)
list(TRANSFORM pool_sources PREPEND ${PROJECT_SOURCE_DIR}/daemon/pool/)
add_library(mempool_pool_steps STATIC EXCLUDE_FROM_ALL ${pool_sources})
target_compile_definitions(mempool_pool_steps PUBLIC LEASE_TEST)
target_link_libraries(mempool_pool_steps PUBLIC mempool_alloc mempool_proto mempool_flags Threads::Threads)
# A daemon that is killed in the middle of a call leaves what the call had taken: no leak is looked for.
mempool_test(test_lease_model SOURCES test_lease_model.c LIBS mempool_pool_steps LABELS unit ENV ASAN_OPTIONS=detect_leaks=0)

# Every interleaving of small scenarios over the code of both sides. The calls that get memory are the test's, so that all can be put back.
set(explore_sources explore/scenarios.c explore/truth.c explore/search.c explore/memory.c explore/daemon.c explore/heaps.c
  ${PROJECT_SOURCE_DIR}/client/heap.c ${PROJECT_SOURCE_DIR}/client/shelf.c ${PROJECT_SOURCE_DIR}/client/lease_map.c)
# Under a sanitizer it takes many minutes.
set(explore_labels unit)
if(MEMPOOL_SANITIZE)
  list(APPEND explore_labels long)
endif()
mempool_test(test_explore SOURCES ${explore_sources} LIBS mempool_pool_steps LABELS ${explore_labels} TIMEOUT 3600 COST 70)
foreach(call malloc calloc realloc free shm_open shm_unlink fchmod close ftruncate fstat mmap munmap madvise posix_fallocate
    fallocate pread getrandom time clock_gettime geteuid lease_guard_map lease_guard_unmap lease_guard_was_hit)
  target_link_options(test_explore PRIVATE -Wl,--wrap=${call})
endforeach()

# The same with a rule of the protocol left out, by its number in proto/lease_word.h: it must be missed.
file(STRINGS ${PROJECT_SOURCE_DIR}/proto/lease_word.h rules REGEX "^\tLEASE_RULE_[A-Z_]+,")
set(number 0)
foreach(rule ${rules})
  string(REGEX REPLACE "^\tLEASE_RULE_([A-Z_]+),.*" "\\1" rule ${rule})
  if(NOT rule MATCHES "^(NONE|N)$" AND NOT MEMPOOL_SANITIZE) # what they look for is the same in every build
    string(TOLOWER ${rule} rule)
    add_test(NAME test_explore_without_${rule} COMMAND test_explore)
    set_tests_properties(test_explore_without_${rule} PROPERTIES ENVIRONMENT MEMPOOL_TEST_WITHOUT=${number}
      PASS_REGULAR_EXPRESSION "found: [^\n]+: " TIMEOUT 600 LABELS unit)
  endif()
  math(EXPR number "${number} + 1")
endforeach()
