// Package keeper lets a program survive its own death: a second process holds its
// descriptors and starts it again.
//
//	server --Spawn--> keeper                the same program, told to hold
//	   |----- Hold: descriptors ------------->|
//	   |                                      |  asleep in recvmsg(2)
//	   X killed, or it crashed                |  end of file
//	                                          |--> server, told to resume: Inherit
//	                                          |<----- Hold, from now on by the new one
//	   |----- Done --------------------------->  both end
//
// What the descriptors are is the program's own business; state that has to survive
// goes into one of them, a memfd. Each Hold replaces all that was held before, so a
// successor never gets a mixture. A descriptor on which the kernel reports an error
// (poll(2), as /dev/fuse does once its connection is gone) ends the keeping: there
// is nothing left to go on with. A program that crashes again and again is started
// ever more slowly and then given up.
//
// Trust: both ends of a link are this program. Concurrency: the methods of a Link
// may be called from any goroutine, Run is a process of its own.
//
// Source: unix(7), SCM_RIGHTS and SOCK_SEQPACKET; docs/decisions/0011-a-keeper.md.
package keeper
