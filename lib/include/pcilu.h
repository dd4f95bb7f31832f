/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libpcilu: Live Update sessions for programs that own PCI devices.
 *
 * A session of the kernel's Live Update Orchestrator carries open files (a VFIO
 * device, the memory it writes to) from one kernel to the next. Sessions come
 * from pcilud, which owns /dev/liveupdate and keeps a copy of every session, so
 * that a session outlives the program; or, without a daemon, from the device
 * itself.
 *
 * Return values: a function that returns int returns 0 or what its description
 * says if all is well, and a negative errno value if not. Nothing is printed,
 * and errno is not meaningful after a call.
 *
 * Names: the name of a session has 1 to 63 characters out of A-Z, a-z, 0-9 and
 * ". _ @ + -", and does not begin with a dot. Names that begin with "pcilud" are
 * the daemon's own.
 *
 * Signals: no call returns -EINTR. One that waits goes on waiting, for no longer than
 * it would have; while the kernel works on a session, signals wait until it is done.
 *
 * Descriptors: a call that needs one more makes sure of it before it asks for
 * anything. If another thread takes it nevertheless, -EMFILE is what comes after the
 * fact, and pcilu_session_attach() or _retrieve() gives the session that was made.
 *
 * NULL: where an object is asked for, NULL gives -EINVAL, or NULL from what returns a
 * pointer. Closing NULL does nothing.
 *
 * Later versions: no structure is allocated by the caller, and those that can be read
 * grow at their end and say how large they are. Constants are numbers of 32 bits, and
 * what is not known here can come from a later daemon or kernel.
 *
 * Threads: every function may be called from any thread at any time, also on the
 * same object, except that pcilu_close() and pcilu_session_close() must be the
 * last call on their object. Requests through one &struct pcilu wait for each other.
 *
 * Forks and execs: all descriptors are close-on-exec. A child of fork() must not
 * use the parent's objects.
 */
#ifndef PCILU_H
#define PCILU_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes that the name of a session takes at most, with the NUL at its end */
#define PCILU_NAME_SIZE 64

/* Where pcilud listens */
#define PCILU_SOCKET "/run/pcilud/socket"

/**
 * pcilu_version - the version of the library that is running
 *
 * Return: "major.minor.patch". A function that the version at build had is in each
 * later one of the same major number. The string is static.
 */
const char *pcilu_version(void);

/* A connection to whatever gives out sessions, and one session */
struct pcilu;
struct pcilu_session;
struct pcilu_request;
struct pcilu_events;

/**
 * enum pcilu_mode - where sessions come from
 * @PCILU_MODE_AUTO: from the daemon if one listens, else from /dev/liveupdate
 * @PCILU_MODE_DAEMON: from the daemon only
 * @PCILU_MODE_DIRECT: from /dev/liveupdate only. The device can be open once in the
 *	system: it is opened for each request and closed again.
 */
enum pcilu_mode {
	PCILU_MODE_AUTO = 0,
	PCILU_MODE_DAEMON = 1,
	PCILU_MODE_DIRECT = 2,
};

/**
 * enum pcilu_direction - on which side of the kexec a session is
 * @PCILU_DIRECTION_OUTGOING: made in this kernel, for the next one
 * @PCILU_DIRECTION_INCOMING: made in the previous kernel, for this one
 */
enum pcilu_direction {
	PCILU_DIRECTION_OUTGOING = 0,
	PCILU_DIRECTION_INCOMING = 1,
};

/**
 * enum pcilu_state - what Live Update holds of a PCI device
 * @PCILU_STATE_NONE: nothing, the device is like any other
 * @PCILU_STATE_PRESERVED: preserved in this kernel, for the next one
 * @PCILU_STATE_INCOMING: preserved by the previous kernel, not retrieved yet
 * @PCILU_STATE_CLAIMED: retrieved by its owner, its session is not finished yet
 * @PCILU_STATE_LOST: preserved by the previous kernel, and another device or none was
 *	found in its place
 * @PCILU_STATE_DEAD: was incoming, and has been stopped for good
 */
enum pcilu_state {
	PCILU_STATE_NONE = 0,
	PCILU_STATE_PRESERVED = 1,
	PCILU_STATE_INCOMING = 2,
	PCILU_STATE_CLAIMED = 3,
	PCILU_STATE_LOST = 4,
	PCILU_STATE_DEAD = 5,
};

/**
 * struct pcilu_session_info - one session that the daemon knows
 * @size: bytes that the running library has filled in. A field that a later version
 *	added is there if it ends within them.
 * @direction: on which side of the kexec it is, &enum pcilu_direction
 * @held: 1 if the daemon has it open. An incoming session is not held until
 *	somebody retrieves it.
 * @uid: the user who created it
 * @pid: the process that got it last, 0 if none has since the daemon was started. It
 *	may be gone; and one that got it before may have it still, if it is held.
 * @name: its name, with a NUL at the end
 */
struct pcilu_session_info {
	uint32_t size;
	uint32_t direction;
	uint32_t held;
	uint32_t uid;
	int32_t pid;
	char name[PCILU_NAME_SIZE];
};

/**
 * pcilu_open - get ready to ask for sessions
 * @lu: where the connection is stored. The caller owns it and ends it with
 *	pcilu_close().
 * @mode: where sessions come from, &enum pcilu_mode
 *
 * Return: 0, or
 * -EINVAL	@lu is NULL or @mode is none of the modes
 * -ENOMEM	no memory
 * -ENOENT	%PCILU_MODE_DAEMON: no daemon. Otherwise: no daemon and no
 *		/dev/liveupdate; the kernel has no Live Update, or was booted without
 *		kho=on liveupdate=on.
 * -ECONNREFUSED %PCILU_MODE_DAEMON: nobody listens at the socket
 * -EACCES	the caller may not use the socket or the device
 * -EPROTO	what listens is no pcilud, or one that speaks another version
 * -ETIMEDOUT	the daemon does not answer within 10 seconds
 * -EMFILE, -ENFILE  no more descriptors
 */
int pcilu_open(struct pcilu **lu, uint32_t mode);

/**
 * pcilu_close - end a connection
 * @lu: the connection, or NULL
 *
 * Sessions that came through it stay as they are.
 */
void pcilu_close(struct pcilu *lu);

/**
 * pcilu_is_daemon - does the daemon give out the sessions?
 * @lu: the connection
 *
 * Return: 1 if it does, 0 if they come from /dev/liveupdate, or -EINVAL
 */
int pcilu_is_daemon(const struct pcilu *lu);

/**
 * pcilu_session_create - make a session for the next kernel
 * @lu: the connection
 * @name: its name, under which it is retrieved there
 * @session: where it is stored. The caller owns it and ends it with
 *	pcilu_session_close().
 *
 * What is preserved in a session that did not come from the daemon is given up
 * when its last descriptor is closed, which includes the death of the program.
 * The daemon's copy keeps it until pcilu_session_release().
 *
 * Return: 0, or
 * -EINVAL	the name is not a valid one, or an argument is NULL
 * -EEXIST	there is an outgoing session of that name. If it is yours, and the
 *		daemon holds it, pcilu_session_attach() gives it.
 * -EACCES	the daemon's policy does not allow the caller this name
 * -EBUSY	/dev/liveupdate was open elsewhere for a second
 * -ENOSPC	the kernel or the daemon has no room for another session
 * -ENOMEM	no memory
 * -EIO		what the previous kernel handed over cannot be read
 * -ECONNRESET	the daemon went away; whether the session was made is not known,
 *		pcilu_session_list() tells. The next call connects again.
 * -ETIMEDOUT	the daemon does not answer within 10 seconds
 * -EPROTO	the daemon's answer makes no sense
 * -EMFILE, -ENFILE  no more descriptors, here or in the daemon
 */
int pcilu_session_create(struct pcilu *lu, const char *name,
			 struct pcilu_session **session);

/**
 * pcilu_session_attach - get an outgoing session again that the daemon holds
 * @lu: the connection
 * @name: the name it was created with
 * @session: where it is stored, as in pcilu_session_create()
 *
 * For a program that was restarted before the kexec.
 *
 * Return: 0, or an error of pcilu_session_create(), or
 * -ENOENT	the daemon holds no outgoing session of that name
 * -EOPNOTSUPP	sessions come from /dev/liveupdate, which cannot do this
 */
int pcilu_session_attach(struct pcilu *lu, const char *name,
			 struct pcilu_session **session);

/**
 * pcilu_session_retrieve - get a session that the previous kernel handed over
 * @lu: the connection
 * @name: the name it was created with
 * @session: where it is stored, as in pcilu_session_create()
 *
 * From the daemon, a session can be retrieved again and again until it is
 * released or finished: a program that died meanwhile goes on where it was, with
 * the iommufd that pcilu_session_kept_iommufd() gives. From
 * /dev/liveupdate it can be retrieved once, and closing it finishes it.
 *
 * Return: 0, or an error of pcilu_session_create() other than -EEXIST, or
 * -ENOENT	no session of that name was handed over, or it is finished
 * -EIO		there is no handler for one of its files yet (is vfio-pci loaded?):
 *		try again; or what was handed over cannot be read
 * -EINVAL	somebody else has retrieved it from /dev/liveupdate
 */
int pcilu_session_retrieve(struct pcilu *lu, const char *name,
			   struct pcilu_session **session);

/**
 * enum pcilu_request_kind - what pcilu_request_start() asks for
 * @PCILU_REQUEST_CREATE: what pcilu_session_create() does
 * @PCILU_REQUEST_ATTACH: what pcilu_session_attach() does
 * @PCILU_REQUEST_RETRIEVE: what pcilu_session_retrieve() does
 */
enum pcilu_request_kind {
	PCILU_REQUEST_CREATE = 0,
	PCILU_REQUEST_ATTACH = 1,
	PCILU_REQUEST_RETRIEVE = 2,
};

/**
 * pcilu_request_start - ask for a session from a main loop
 * @lu: the connection, which is not kept busy by it
 * @kind: what to ask for, &enum pcilu_request_kind
 * @name: the name of the session
 * @request: where the request is stored. The caller owns it and ends it with
 *	pcilu_request_close().
 *
 * Neither this nor pcilu_request_take() waits for anybody. There is no time limit but
 * the caller's.
 *
 * Return: 0, or
 * -EINVAL	an argument is not valid
 * -EOPNOTSUPP	sessions come from /dev/liveupdate, which makes its users wait
 * -EAGAIN	too many others are asking: try again
 * -ECONNRESET	the daemon is not there at the moment
 * -EACCES, -ENOMEM, -EMFILE, -ENFILE  as in pcilu_session_create()
 */
int pcilu_request_start(struct pcilu *lu, uint32_t kind, const char *name,
			struct pcilu_request **request);

/**
 * pcilu_request_fd - what to wait for
 * @request: the request
 *
 * Return: a descriptor that can be read when there is an answer, the request's own;
 * or -EINVAL
 */
int pcilu_request_fd(const struct pcilu_request *request);

/**
 * pcilu_request_take - take the answer
 * @request: the request
 * @session: where the session is stored, as in pcilu_session_create()
 *
 * Return: 0; -EAGAIN as long as there is no answer; or an error of the function that
 * the request stands for, after which nothing more will come
 */
int pcilu_request_take(struct pcilu_request *request,
		       struct pcilu_session **session);

/**
 * pcilu_request_close - end a request
 * @request: the request, or NULL
 *
 * If no answer was taken, whether the session was made is not known.
 */
void pcilu_request_close(struct pcilu_request *request);

/**
 * enum pcilu_event_kind - what `pcilu update` asks of those who own devices
 * @PCILU_EVENT_PREPARE: a live update is near. Do what can be done while the guest
 *	runs: create the session, preserve its memory. Ready means that nothing
 *	stands in the way of the rest.
 * @PCILU_EVENT_GO: stop the guest and preserve the rest. Ready means that all is
 *	preserved and that the kernel may be left at any moment from now on.
 * @PCILU_EVENT_ABORT: it does not take place. Whatever was answered, this comes after
 *	each prepare that no kexec follows: take back what was done, and go on.
 */
enum pcilu_event_kind {
	PCILU_EVENT_PREPARE = 1,
	PCILU_EVENT_GO = 2,
	PCILU_EVENT_ABORT = 3,
};

/**
 * struct pcilu_event - one event
 * @size: bytes that the running library has filled in, as in pcilu_session_info
 * @kind: what is asked, &enum pcilu_event_kind. One that is not known is to be
 *	refused, with -EOPNOTSUPP.
 * @limit_ms: milliseconds within which the answer has to be there, or it is a no;
 *	0 if none is asked for
 */
struct pcilu_event {
	uint32_t size;
	uint32_t kind;
	uint32_t limit_ms;
};

/**
 * pcilu_events_start - take part in the live updates of this machine
 * @lu: the connection, which is not kept busy by it
 * @name: a name of those that the caller may use for sessions. It is what people see
 *	when the caller says no.
 * @events: where the subscription is stored. The caller owns it and ends it with
 *	pcilu_events_close().
 *
 * To be started before the first device is opened. No live update takes place unless
 * all that take part say twice that they are ready, within a time limit. Who comes
 * while others are being asked already is asked as well. Nothing here waits.
 *
 * A subscription outlives the daemon. When that is restarted, or is not there yet, the
 * subscription is made again by pcilu_events_take(). Until then no live update takes
 * place that would lose a device of the caller.
 *
 * Return: 0, or
 * -EINVAL	an argument is not valid
 * -EOPNOTSUPP	there is no daemon: nobody asks
 * -ENOMEM, -EMFILE, -ENFILE  as in pcilu_session_create()
 */
int pcilu_events_start(struct pcilu *lu, const char *name,
		       struct pcilu_events **events);

/**
 * pcilu_events_fd - what to wait for
 * @events: the subscription
 *
 * Return: a descriptor that can be read when pcilu_events_take() has something to do or
 * to say, the subscription's own, and the same as long as that lives; or -EINVAL
 */
int pcilu_events_fd(const struct pcilu_events *events);

/**
 * pcilu_events_take - take the next event
 * @events: the subscription
 * @event: where its address is stored. It is valid until the next one is taken.
 *
 * If the daemon went away after it had asked for something, an abort is the first event
 * when it is back, and not before: nothing could be released meanwhile, and the machine
 * may be on its way into the next kernel.
 *
 * Return: 0; -EAGAIN as long as there is none; -EMFILE or -ENFILE as long as there is no
 * descriptor for a moment; or, after which nothing more will come,
 * -EACCES	the daemon's policy does not allow the caller this name
 * -EOPNOTSUPP	the daemon is one that does not ask
 * -ENOSPC	too many of this user take part
 * -EPROTO	what it says makes no sense
 * -EINVAL	an argument is NULL
 */
int pcilu_events_take(struct pcilu_events *events,
		      const struct pcilu_event **event);

/**
 * pcilu_events_answer - answer the event that was taken last
 * @events: the subscription
 * @verdict: 0 if ready, or a negative errno value, which people are shown as the reason;
 *	pcilu_events_refuse() says more
 *
 * To be called when all is done that the event asks for, from any thread, once. The
 * update is taken back if anybody says no. An answer that comes too late is lost; an
 * abort has come then, or will.
 *
 * Return: 0, or
 * -EINVAL	the last event does not ask, or is answered already, or an argument is
 *		not valid
 * -ECONNRESET	the daemon went away, and an abort will come
 */
int pcilu_events_answer(struct pcilu_events *events, int verdict);

/**
 * pcilu_events_refuse - answer no, and say why
 * @events: the subscription
 * @verdict: a negative errno value, as in pcilu_events_answer()
 * @why: for those who started the update: what is in the way, and what to do, in ASCII.
 *	They are shown the first 63 bytes of it, in place of the errno's own words; NULL:
 *	these.
 *
 * Return: as pcilu_events_answer()
 */
int pcilu_events_refuse(struct pcilu_events *events, int verdict,
			const char *why);

/**
 * pcilu_events_close - take part no longer
 * @events: the subscription, or NULL
 *
 * While an update is going on this is a no, as the death of the program is.
 */
void pcilu_events_close(struct pcilu_events *events);

/**
 * pcilu_session_from_fd - make a session object from a descriptor
 * @fd: a session's descriptor, for example inherited or from another agent. On
 *	success the object owns it.
 * @direction: on which side of the kexec it is, &enum pcilu_direction
 * @session: where it is stored, as in pcilu_session_create()
 *
 * Return: 0, or
 * -EINVAL	@fd is open but no session, or an argument is not valid
 * -EBADF	@fd is not open
 * -ENOMEM	no memory
 */
int pcilu_session_from_fd(int fd, uint32_t direction,
			  struct pcilu_session **session);

/**
 * pcilu_session_close - give up the descriptor and the object
 * @session: the session, or NULL
 *
 * A session from the daemon stays as it is, with all it holds. One from
 * /dev/liveupdate is given up (outgoing) or finished (incoming) unless its
 * descriptor was duplicated.
 */
void pcilu_session_close(struct pcilu_session *session);

/**
 * pcilu_session_fd - the descriptor of a session
 * @session: the session
 *
 * Return: the descriptor, or -EINVAL. It stays the object's; duplicate it to keep it.
 */
int pcilu_session_fd(const struct pcilu_session *session);

/**
 * pcilu_session_name - the name of a session
 * @session: the session
 *
 * Return: the name, valid as long as the object, or NULL
 */
const char *pcilu_session_name(const struct pcilu_session *session);

/**
 * pcilu_session_direction - on which side of the kexec a session is
 * @session: the session
 *
 * Return: an &enum pcilu_direction, or -EINVAL
 */
int pcilu_session_direction(const struct pcilu_session *session);

/**
 * pcilu_session_preserve_fd - preserve an open file for the next kernel
 * @session: an outgoing session
 * @fd: a VFIO device opened through its cdev and bound to an iommufd, or a memfd
 *	(not hugetlb). It may be closed afterwards: the session holds the file.
 * @token: any number; under it the file is retrieved
 *
 * Preserve a device and the memory it writes to in the same session, the memory
 * first. The size of a preserved memfd cannot change any more. Addresses of pages
 * are to be read after this call, which may move them for the last time.
 *
 * Return: 0, or
 * -EINVAL	@session is incoming, or the device is a bridge or asleep
 * -EBADF	@fd is not open
 * -EEXIST	@token is taken in this session
 * -EBUSY	the file or device is preserved already, not finished from the last
 *		live update, or buses are being scanned: try again
 * -ENOENT	no handler for such a file: not a memfd, or vfio-pci without Live
 *		Update
 * -EOPNOTSUPP	this device, or this kind of memory, cannot be preserved; the
 *		kernel's log says why and what to do
 * -ENODEV	the device is gone
 * -ENOSPC	the session is full
 * -ENOMEM	no memory
 */
int pcilu_session_preserve_fd(struct pcilu_session *session, int fd,
			      uint64_t token);

/**
 * pcilu_session_retrieve_fd - get a preserved file in the new kernel
 * @session: an incoming session
 * @token: the number it was preserved with
 *
 * Retrieve memory before the device that writes to it. A VFIO device must be
 * bound to vfio-pci before.
 *
 * Return: a descriptor, close-on-exec, which the caller owns, or
 * -EINVAL	@session is outgoing, or finished
 * -ENOENT	no file has this token
 * -EAGAIN	the device has no driver yet: bind vfio-pci and try again
 * -ENODEV	the device is gone, or another one is in its place
 * -EPERM	a no-IOMMU device, and the caller has no CAP_SYS_RAWIO
 * -EBUSY	it was retrieved already and is still open
 * -EMFILE, -ENFILE  no more descriptors
 * -ENOMEM	no memory
 * Other errors are the file handler's. A device whose retrieve failed is as it was,
 * and the call may be made again when its reason is gone. Memory of which a part has
 * been used up fails in the same way again.
 */
int pcilu_session_retrieve_fd(struct pcilu_session *session, uint64_t token);

/**
 * pcilu_session_keep_iommufd - have the daemon keep the iommufd of a session's devices
 * @lu: the connection that the session came through
 * @session: an incoming session
 * @iommufd: the descriptor, which stays the caller's
 *
 * To be called before a device of the session is bound to it. The session has the
 * device files for whoever retrieves them, but one that is bound stays bound to the
 * iommufd of the program that did it: if that program dies before the session is
 * finished, who comes after it needs this one. The daemon keeps one for each session,
 * the last, until the session is finished or released. Devices of two sessions need two:
 * an open file is kept once.
 *
 * Return: 0, or
 * -EINVAL	@session is outgoing, or @iommufd is none
 * -EBUSY	@iommufd is kept with another session
 * -ENOENT	the daemon does not hold the session
 * -EOPNOTSUPP	the session is not from a daemon
 * -EACCES	the daemon's policy does not allow the caller this name
 * -EMFILE	the daemon has no more descriptors
 * -ECONNRESET	the daemon went away, or is one that keeps nothing
 * -ETIMEDOUT, -EPROTO  as in pcilu_session_create()
 */
int pcilu_session_keep_iommufd(struct pcilu *lu, struct pcilu_session *session,
			       int iommufd);

/**
 * pcilu_session_kept_iommufd - the iommufd that is kept with a session
 * @lu: the connection that the session came through
 * @session: an incoming session
 *
 * What is in it is as the program that died has left it. A device file that answers
 * VFIO_DEVICE_GET_INFO is bound to it.
 *
 * Return: a descriptor, close-on-exec, which the caller owns, or an error of
 * pcilu_session_keep_iommufd(), or
 * -ENOENT	none is kept, or the daemon does not hold the session
 * -EINVAL	@session is outgoing, or the daemon is one that keeps nothing
 */
int pcilu_session_kept_iommufd(struct pcilu *lu, struct pcilu_session *session);

/**
 * pcilu_session_finish - say that the live update of a session is done
 * @lu: the connection that the session came through, or NULL if it did not come
 *	from the daemon, or if the caller will call pcilu_session_release() itself
 * @session: an incoming session of which everything that matters is retrieved,
 *	with memory mapped for the device
 *
 * A device that was not retrieved, or was but has no memory mapped, is stopped
 * and reset, and so are all of them if a file was not retrieved: then its memory
 * is free. The daemon forgets the session. The object stays the caller's to close.
 *
 * Return: 0, or
 * -EINVAL	@session is outgoing
 * -EBUSY	a file cannot be finished yet; nothing has changed, try again
 * Errors of the daemon are those of pcilu_session_release(); the session is
 * finished nevertheless, and its owner goes on. To tell the two apart, make two calls
 * of it, this one with NULL.
 */
int pcilu_session_finish(struct pcilu *lu, struct pcilu_session *session);

/**
 * pcilu_session_release - let the daemon give up its copy of a session
 * @lu: the connection
 * @session: the session
 *
 * An outgoing session whose last descriptor is closed is gone, and nothing of it
 * is preserved any more; so release it, then close it, to take a preservation
 * back. Without a daemon this does nothing.
 *
 * Return: 0, or
 * -EINVAL	an argument is NULL
 * -ENOENT	the daemon does not know the session
 * -EACCES	the daemon's policy does not allow the caller this name
 * -ECONNRESET, -ETIMEDOUT, -EPROTO  as in pcilu_session_create()
 */
int pcilu_session_release(struct pcilu *lu, struct pcilu_session *session);

/**
 * pcilu_session_list - the sessions that the daemon knows
 * @lu: the connection
 * @list: where the address of an array of pointers is stored, of which the last is
 *	NULL; the caller frees it, with all that it points to, by one free()
 * @count: where the number of sessions is stored, or NULL
 *
 * A caller sees the sessions whose names the policy lets it use.
 *
 * Return: 0, or
 * -EINVAL	an argument is NULL
 * -EOPNOTSUPP	sessions come from /dev/liveupdate, which cannot tell
 * -ENOMEM	no memory
 * -ECONNRESET, -ETIMEDOUT, -EPROTO  as in pcilu_session_create()
 */
int pcilu_session_list(struct pcilu *lu, struct pcilu_session_info ***list,
		       size_t *count);

/**
 * pcilu_device_state - what Live Update holds of a PCI device
 * @bdf: its full address, domain:bus:device.function in hexadecimal digits of either
 *	case, as in "0000:3b:00.0"
 *
 * Return: an &enum pcilu_state, or
 * -EINVAL	@bdf is no full address
 * -ENODEV	there is no such device
 * -EOPNOTSUPP	the kernel does not tell: it has no PCI Live Update
 * -EPROTO	the kernel says a word that this library does not know
 * -EACCES, -EIO  the file cannot be read
 */
int pcilu_device_state(const char *bdf);

/**
 * pcilu_state_name - a state as a word
 * @state: an &enum pcilu_state
 *
 * Return: the word that the kernel uses ("preserved"), "unknown" for any other
 * number. The string is static.
 */
const char *pcilu_state_name(int state);

/**
 * pcilu_name_valid - is this a name that a session can have?
 * @name: a string, or NULL
 *
 * Return: 1 if it is, 0 if not
 */
int pcilu_name_valid(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* PCILU_H */
