package ordmap

import (
	"bytes"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func pairs(seq iter.Seq2[[]byte, int]) (s []string) {
	for k, v := range seq {
		s = append(s, fmt.Sprintf("%q=%d", k, v))
	}
	return s
}

// TestModel compares with a Go map; every version that was kept stays as it was.
func TestModel(t *testing.T) {
	key := rapid.SliceOfN(rapid.ByteRange(0, 3), 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		type version struct {
			m    Map[int]
			want map[string]int
		}
		now := version{want: map[string]int{}}
		var kept []version
		for i := range rapid.IntRange(0, 60).Draw(t, "steps") {
			k := key.Draw(t, "key")
			now.want = maps.Clone(now.want)
			if rapid.Bool().Draw(t, "set") {
				now.m = now.m.Set(k, i)
				now.want[string(k)] = i
			} else {
				now.m = now.m.Delete(k)
				delete(now.want, string(k))
			}
			kept = append(kept, now)
		}
		start, end := key.Draw(t, "start"), key.Draw(t, "end")
		if rapid.Bool().Draw(t, "endless") {
			end = nil
		}
		for _, v := range kept {
			check(t, v.m, v.want, start, end)
		}
	})
}

func check(t *rapid.T, m Map[int], want map[string]int, start, end []byte) {
	if m.Len() != len(want) {
		t.Fatalf("len %d, want %d", m.Len(), len(want))
	}
	var in []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		if got, ok := m.Get([]byte(k)); !ok || got != want[k] {
			t.Fatalf("get %q: %d, %v, want %d", k, got, ok, want[k])
		}
		if k >= string(start) && (end == nil || k < string(end)) {
			in = append(in, fmt.Sprintf("%q=%d", k, want[k]))
		}
	}
	if got := pairs(m.Ascend(start, end)); !slices.Equal(got, in) {
		t.Fatalf("ascend %q to %q: %q, want %q", start, end, got, in)
	}
	slices.Reverse(in)
	if got := pairs(m.Descend(start, end)); !slices.Equal(got, in) {
		t.Fatalf("descend %q to %q: %q, want %q", start, end, got, in)
	}
	balanced(t, m.root)
}

// balanced: each rank is above those of the children.
func balanced[V any](t *rapid.T, n *node[V]) {
	if n == nil {
		return
	}
	for _, child := range []*node[V]{n.left, n.right} {
		if child != nil && child.rank > n.rank {
			t.Fatalf("%q is above %q", n.key, child.key)
		}
		balanced(t, child)
	}
}

func TestMissing(t *testing.T) {
	var m Map[int]
	if _, ok := m.Get([]byte("a")); ok || m.Delete([]byte("a")).Len() != 0 {
		t.Error("the empty map holds something")
	}
	if _, ok := m.Set([]byte("b"), 1).Get([]byte("a")); ok {
		t.Error("got what was not set")
	}
}

// TestDepth: keys in order do not make a list.
func TestDepth(t *testing.T) {
	var m Map[int]
	for i := range 10_000 {
		m = m.Set(fmt.Appendf(nil, "%05d", i), i)
	}
	if d := depth(m.root); d > 60 { // about 2 ln n = 19 on average
		t.Errorf("depth %d", d)
	}
	for key := range m.Ascend([]byte("05000"), nil) {
		if !bytes.Equal(key, []byte("05000")) {
			t.Errorf("first key %q", key)
		}
		break
	}
	for key := range m.Descend(nil, []byte("05000")) {
		if !bytes.Equal(key, []byte("04999")) {
			t.Errorf("last key %q", key)
		}
		break
	}
}

func depth[V any](n *node[V]) int {
	if n == nil {
		return 0
	}
	return 1 + max(depth(n.left), depth(n.right))
}
