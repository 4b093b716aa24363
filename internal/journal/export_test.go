package journal

// Feed gives a follower a record as a source would.
func (f *Follower) Feed(e Entry) error { return (&following{f}).Record(e) }

// FeedHeartbeat gives it a heartbeat.
func (f *Follower) FeedHeartbeat(data []byte) error { return (&following{f}).Heartbeat(data) }
