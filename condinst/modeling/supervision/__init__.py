"""What masks are trained against, as pure functions of tensors: dice, boxes and colours."""
