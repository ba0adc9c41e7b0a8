# The library against a daemon that goes away at any point of a request; linked statically, so that its malloc can fail.
mempool_test(test_client_resume SOURCES test_client_resume.c
  LIBS mempool-client-static mempool_fake_daemon mempool_fault mempool_proto LABELS unit concurrent)
