"""Virtual machines on other kernels, and the tests that run only there."""
