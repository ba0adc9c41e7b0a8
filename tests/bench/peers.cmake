# The peers' loops once for each allocator, and bench_peers, which runs them. malloc() is replaced by a library in $LD_PRELOAD.
if(TARGET mempool-client)
  add_executable(peer_mempool peer_mempool.c)
  target_link_libraries(peer_mempool PRIVATE mempool-client mempool_test_lib mempool_flags Threads::Threads)
  add_executable(peer_malloc peer_malloc.c)
  target_link_libraries(peer_malloc PRIVATE mempool_flags Threads::Threads)
  target_compile_options(peer_malloc PRIVATE -fno-builtin-malloc -fno-builtin-free) # else a pair is optimised away
  set(boost_program "")

  # Boost's is the only C++ of ours: built where it is measured, if the machine has what it takes.
  if(CMAKE_BUILD_TYPE STREQUAL "Release" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
    include(CheckLanguage)
    check_language(CXX)
    find_path(BOOST_INCLUDE boost/interprocess/managed_shared_memory.hpp)
    mark_as_advanced(BOOST_INCLUDE)
    if(CMAKE_CXX_COMPILER AND BOOST_INCLUDE)
      enable_language(CXX)
      add_executable(peer_boost peer_boost.cc)
      target_include_directories(peer_boost PRIVATE ${BOOST_INCLUDE})
      target_link_libraries(peer_boost PRIVATE Threads::Threads)
      set(boost_program "$<TARGET_FILE:peer_boost>")
    endif()
  endif()

  add_executable(bench_peers peers.c)
  target_compile_definitions(bench_peers PRIVATE
    BENCH_PEER_MEMPOOL="$<TARGET_FILE:peer_mempool>" BENCH_PEER_MALLOC="$<TARGET_FILE:peer_malloc>" BENCH_PEER_BOOST="${boost_program}")
  target_link_libraries(bench_peers PRIVATE mempool_test_lib mempool_flags)
endif()
