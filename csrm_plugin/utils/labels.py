"""What all label maps agree on."""

#: Index of pixels that have no class: uncertain in a pseudo label, not counted in a mask.
IGNORE_INDEX = 255
