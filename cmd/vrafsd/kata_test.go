package main

import (
	"fmt"
	"testing"
)

// contract is what Kata's two runtimes and their agent ask of the daemon that they
// start: the list of kata.md, section 8, each line with its claims. What needs a
// guest's kernel (line 10) and shared directories (11 and 12) is in test/vm and in
// the tests of package passthrough.
var contract = []struct {
	line  int
	claim string
	test  func(t *testing.T)
}{
	{1, "arguments of both runtimes, and virtiofsd's", argvOfBothRuntimes},
	{1, "bare socket names", bareSocketNames},
	{2, "the vhost-user socket is there first", socketsInOrder},
	{2, "RUNNING from the first answer on", runningFromTheFirst},
	{2, "stale sockets are replaced", staleSockets},
	{3, "strict information", strictInformation},
	{3, "requests byte for byte", requestsByteForByte},
	{3, "refusals say what is wrong", refusals},
	{3, "a configuration of 128 KiB", largeConfiguration},
	{3, "sixteen mounts at once", parallelMounts},
	{3, "silent connections", silentConnections},
	{4, "images come and go under a guest that reads", mountsUnderReaders},
	{4, "DELETE succeeds once, whatever is open or under way", deleteOfBusy},
	{4, "directories above mounts come and go", pseudoDirectories},
	{4, "only images are remembered by the guest", timeouts},
	{5, "signals end it at any time", signalsEndIt},
	{5, "SIGTERM with a registry that hangs", signalWithHungRegistry},
	{5, "SIGKILL leaves a cache that is right", killLeavesTheCacheRight},
	{6, "nobody reads the log any more", lostReaderOfTheLog},
	{6, "the log is full", fullPipe},
	{6, "log lines fit Kata's reader", longLogLines},
	{6, "one process, in the foreground", oneProcess},
	{7, "front-ends come after one another", frontEndsInTurn},
	{7, "a new INIT is a new session", newSession},
	{7, "orphans end", orphansEnd},
	{8, "rings stop and start in one session", pauseAndResume},
	{8, "guest memory comes and goes", memoryHotPlug},
	{9, "acknowledgements, no configuration space, two queues of 1024", leastOffer},
	{13, "sockets belong to the owner of their directory", socketOwner},
}

// TestKataContract goes through the contract.
func TestKataContract(t *testing.T) {
	for _, c := range contract {
		t.Run(fmt.Sprintf("%d/%s", c.line, c.claim), c.test)
	}
}
