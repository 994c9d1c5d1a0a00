"""What every technique needs and none owns: registry, hub, attention, devices, jobs, media, run records."""
