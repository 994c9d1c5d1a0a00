"""Where an agent acts: a simulator without a browser, and a page in a real one."""
