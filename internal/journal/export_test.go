package journal

// Feed passes a record to the follower as a source does.
func (f *Follower) Feed(e SequencedRecord) error { return (&followerConsumer{f: f}).Record(e) }

// FeedHeartbeat passes a heartbeat to the follower as a source does.
func (f *Follower) FeedHeartbeat(data []byte) error { return (&followerConsumer{f: f}).Heartbeat(data) }

// SetProblem stores a problem of the follower.
func (f *Follower) SetProblem(problem string) { f.setProblem(problem) }
