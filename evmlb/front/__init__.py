"""The client's side: one connection is a :class:`.lane.Lane`; what they share is a :class:`.front.Front`."""
