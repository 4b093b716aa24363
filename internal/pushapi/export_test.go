package pushapi

// AllowNoMore keeps the limits of unknown callers from allowing more calls as time passes, beyond the burst.
func (a *API) AllowNoMore() {
	a.limits.unknown.SetLimit(0)
	a.limits.orders.SetLimit(0)
}

// AheadFor is how long a node may be ahead.
const AheadFor = aheadFor
