foreach(noun backing budget pool pool_model quota registry segment)
  mempool_test(test_${noun} SOURCES test_${noun}.c LIBS mempool_pool mempool_proto LABELS unit)
endforeach()
