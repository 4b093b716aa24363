package setup

// WakeFunc returns a function that sends to each channel that has room, and never blocks.
func WakeFunc(changed ...chan struct{}) func() {
	return func() {
		for _, c := range changed {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}
