foreach(name engine frag)
  add_executable(bench_${name} ${name}.c)
  target_link_libraries(bench_${name} PRIVATE mempool_alloc mempool_flags)
endforeach()
