"""What training reads: a memory-mapped index of COCO data, images, and the mapper that augments."""
