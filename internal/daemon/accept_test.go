package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A refusing listener has an error for each try, nil for a client.
type refusing struct {
	net.Listener
	errs []error
	hook func() // with each try, unless nil
}

func (r *refusing) Accept() (net.Conn, error) {
	err := r.errs[0]
	r.errs = r.errs[1:]
	if r.hook != nil {
		r.hook()
	}
	if err != nil {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", err)}
	}
	return &net.UnixConn{}, nil
}

func TestAcceptOutlastsWantOfResources(t *testing.T) {
	for _, tt := range []struct {
		name string
		errs []error // of the listener
		want error
	}{
		{"none", []error{nil}, nil},
		{"descriptors", []error{unix.EMFILE, unix.ENFILE, nil}, nil},
		{"memory", []error{unix.ENOMEM, unix.ENOBUFS, nil}, nil},
		{"client_gone", []error{unix.ECONNABORTED, nil}, nil},
		{"socket_broken", []error{unix.ENOMEM, unix.EINVAL}, unix.EINVAL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			told := 0
			r := &refusing{errs: tt.errs}
			conn, err := (&patient{r, t.Context(), func(error) { told++ }}).Accept()
			if !errors.Is(err, tt.want) || (conn == nil) != (tt.want != nil) || len(r.errs) != 0 {
				t.Errorf("got %v, %v, %d tries left", conn, err, len(r.errs))
			}
			if told != len(tt.errs)-1 {
				t.Errorf("told of %d errors of %d", told, len(tt.errs)-1)
			}
		})
	}
}

func TestAcceptGivesUpAtTheEnd(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	r := &refusing{errs: []error{unix.EMFILE}, hook: end}
	if _, err := (&patient{r, ctx, func(error) {}}).Accept(); !errors.Is(err, unix.EMFILE) {
		t.Error(err)
	}
}
