package teststore

import (
	"os/exec"
	"testing"

	"vrafs/internal/testenv"
)

// Keys are what an object store knows somebody by. Token belongs to those of a session.
type Keys struct{ ID, Secret, Token string }

// A keyring is a server's list of whom it lets in.
type keyring interface {
	add(t testing.TB, k Keys)
	remove(t testing.TB, id string)
}

// Admit has an object store take other keys beside those that it takes.
func (s *Store) Admit(t testing.TB, k Keys) {
	t.Helper()
	s.keys.add(t, k)
}

// Revoke has an object store refuse keys; those of its section have the id FirstKey.
func (s *Store) Revoke(t testing.TB, id string) {
	t.Helper()
	s.keys.remove(t, id)
}

// FirstKey is the id of the keys that an object store's section names.
const FirstKey = keyID

// Who may change whom versitygw lets in.
const (
	rootID     = "root"
	rootSecret = "wholly-unlike-the-others"
)

// A gateway is a versitygw's list of users. They have no sessions.
type gateway struct{ url string }

func (g gateway) add(t testing.TB, k Keys) {
	t.Helper()
	g.admin(t, "create-user", "--access", k.ID, "--secret", k.Secret, "--role", "admin")
}

func (g gateway) remove(t testing.TB, id string) {
	t.Helper()
	g.admin(t, "delete-user", "--access", id)
}

func (g gateway) admin(t testing.TB, args ...string) {
	t.Helper()
	args = append([]string{"admin", "--access", rootID, "--secret", rootSecret, "--region", region, "--endpoint-url", g.url}, args...)
	if out, err := exec.CommandContext(t.Context(), testenv.Peer("versitygw"), args...).CombinedOutput(); err != nil {
		t.Fatalf("versitygw %v: %v: %s", args, err, out)
	}
}
