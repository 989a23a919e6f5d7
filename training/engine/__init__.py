"""The training loop, whatever learns in it: devices, schedule, resume, logs."""
