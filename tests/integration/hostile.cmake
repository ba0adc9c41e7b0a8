# Sanitizers use memory of their own, which counts as the daemon's where its growth is measured: ASan keeps freed memory
# back, TSan shadows it.
mempool_test(test_hostile SOURCES test_hostile.c hostile.c LIBS mempool_test_lib mempool_proto LABELS integration
  ENV ASAN_OPTIONS=quarantine_size_mb=1:thread_local_quarantine_size_kb=64)
if(MEMPOOL_SANITIZE MATCHES thread)
  target_compile_definitions(test_hostile PRIVATE SLOW_CLIENT_KIB=1024)
else()
  target_compile_definitions(test_hostile PRIVATE SLOW_CLIENT_KIB=256)
endif()
mempool_test(test_hostile_lease SOURCES test_hostile_lease.c hostile.c LIBS mempool_test_lib mempool_proto Threads::Threads
  LABELS integration)
