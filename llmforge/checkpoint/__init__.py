"""What training leaves on the disk: model folders that other tools open, adapters, and the state to go on from."""
