package errata

import (
	"math/rand/v2"
	"time"
)

const (
	// A stream that lived this long was a good one: its end begins a new series of attempts.
	streamLivedMin = 10 * time.Second
	// Spreads the first attempts after a good stream.
	firstDelayMax = 50 * time.Millisecond
	// Upper end of the jitter after the first failure; it doubles with each that follows, up to delayMax.
	delayMin = 800 * time.Millisecond
	delayMax = 30 * time.Second
)

// reconnect gives the delays before the next stream. One that was cut by a restart comes back at once, spread a
// little; what fails again, or failed from the start, waits longer each time, with full jitter: a thousand
// watchers that lost one Learner must not come back together.
type reconnect struct{ failures int }

func (r *reconnect) delay(lived time.Duration) time.Duration {
	if lived >= streamLivedMin {
		r.failures = 0
		return rand.N(firstDelayMax)
	}
	ceiling := min(delayMax, delayMin<<min(r.failures, 16))
	r.failures++
	return rand.N(ceiling)
}
