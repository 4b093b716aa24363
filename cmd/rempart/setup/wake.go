package setup

// WakeFunc returns a function that leaves word on channels with room for one, and does not wait.
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
