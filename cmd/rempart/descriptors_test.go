package main

import "testing"

// TestDescriptorsAreShared checks that all kinds together stay below the limit, with two web listeners and five sockets for four questions.
func TestDescriptorsAreShared(t *testing.T) {
	for _, limit := range []uint64{256, 1024, 4096, 20_000, enoughDescriptors, 1 << 63} {
		d := share(limit)
		if all := d.streams + d.questions*5/4 + 2*d.web + d.api; uint64(all) > limit/5*4 || d.web < 8 || d.questions < 64 {
			t.Errorf("%d of %d: %+v", all, limit, d)
		}
	}
	if d := share(20); d.web < 1 || d.api < 1 {
		t.Errorf("few files: %+v", d)
	}
	if d := share(enoughDescriptors); d != (descriptors{4096, 4096, 512, 8192}) {
		t.Errorf("%+v", d)
	}
}
