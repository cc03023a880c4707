package imagemount

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// makeState makes the state of a mount, whose processes live until ended.
func makeState(t *testing.T, p *place) (s *state, ended func()) {
	t.Helper()
	s, err := p.create(t.Context(), note{Dir: p.at})
	must(t, err)
	return s, func() { _ = s.out.Close() }
}

// TestAnUnmountLeavesTheNextMountAlone: whoever waits for a mount to end finds another in
// its place when that was quick.
func TestAnUnmountLeavesTheNextMountAlone(t *testing.T) {
	for name, finish := range map[string]func(s *state, ctx context.Context, home string) error{
		"unmount": func(s *state, ctx context.Context, home string) error {
			if err := s.end(ctx); err != nil {
				return err
			}
			return s.remove(ctx, home)
		},
		"lazy": (*state).leave,
	} {
		t.Run(name, func(t *testing.T) {
			p, err := placeOf(filepath.Join(t.TempDir(), "home"), t.TempDir())
			must(t, err)
			_, ended := makeState(t, p)
			first, err := p.current()
			must(t, err)
			must(t, first.hold())
			defer first.release()
			if !first.used(t.Context()) {
				t.Error("a state in use is taken for one that is not")
			}
			ended()
			next, ended := makeState(t, p)
			defer ended()
			if first.used(t.Context()) || !next.used(t.Context()) || next.dir != first.dir {
				t.Error("the next mount is taken for the first")
			}
			must(t, finish(first, t.Context(), p.home))
			if _, err := os.Stat(next.path(noteName)); err != nil {
				t.Errorf("what belongs to the next mount: %v", err)
			}
		})
	}
}

// TestDetachedStatesAreRemovedOnceNobodyUsesThem, whatever the directory is called.
func TestDetachedStatesAreRemovedOnceNobodyUsesThem(t *testing.T) {
	p, err := placeOf(filepath.Join(t.TempDir(), "[home]*"), t.TempDir())
	must(t, err)
	first, endFirst := makeState(t, p)
	must(t, first.detach(p.home))
	second, endSecond := makeState(t, p)
	defer endSecond()
	sweep(t.Context(), p.home)
	if _, err := os.Stat(first.dir); err != nil || second.dir == first.dir {
		t.Errorf("a state that is used: %v", err)
	}
	endFirst()
	sweep(t.Context(), p.home)
	if _, err := os.Stat(first.dir); !os.IsNotExist(err) {
		t.Errorf("a state that nobody uses: %v", err)
	}
	if s, err := p.current(); err != nil || s.dir != second.dir {
		t.Errorf("current is %v, %v", s, err)
	}
}
