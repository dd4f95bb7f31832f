/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pcilu-qemu: what stands between a QEMU before the kexec and the one after it.
 *
 * QEMU's CPR ("checkpoint and restart") hands all descriptors of a QEMU to its successor
 * by name, and the rest of its state by a stream (QEMU's docs/devel/migration/CPR.rst).
 * The successor is not told whose they were. So the descriptors go through a Live Update
 * session, and in the next kernel others of the same names take their places.
 */
#ifndef BROKER_H
#define BROKER_H

#include <json-c/json.h>
#include <pcilu.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define RUN_DIR "/run/pcilu-qemu"
#define PAGE 4096ULL

/* --- main.c */

__attribute__((format(printf, 2, 3))) int fail(int err, const char *fmt, ...);
const char *fail_text(void); /* what was said last */
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);

/* RUN_DIR/@name/@file; the caller frees it. NULL: no memory, said */
char *run_path(const char *name, const char *file);

/* --- stream.c: the descriptors, as QEMU_CPR_EXEC_STATE tells of them */

#define STREAM_VARIABLE "QEMU_CPR_EXEC_STATE"
#define NAME_SIZE 256

struct handed {
	char name[NAME_SIZE];
	int id;
	int fd;
};

/* A vfio-pci device, and its objects of the iommufd */
struct hosted {
	char name[NAME_SIZE];
	uint32_t dev, ioas, hwpt;
};

struct stream {
	struct handed *handed;
	size_t nr_handed;
	struct hosted *hosted;
	size_t nr_hosted;
};

/* From the start of the file. 0, or -EBADMSG, -EIO, -ENOMEM: said. */
int stream_read(struct stream *s, int fd);
/* Returns a memfd that the next program inherits as it does those, or an errno: said. */
int stream_write(const struct stream *s);
void stream_free(struct stream *s);
int stream_add(struct stream *s, const char *name, int id, int fd);
int stream_host(struct stream *s, const struct hosted *h);
/* The descriptor of that name and id, or -1 */
int stream_find(const struct stream *s, const char *name, int id);
/*
 * The file of a region of memory, or -1 if there is none, or more than one. QEMU names it
 * as the region, perhaps with the path of a device before.
 */
int stream_memory(const struct stream *s, const char *region);

/* --- qmp.c: a running QEMU */

struct qmp;

struct qmp *qmp_open(const char *path);
void qmp_close(struct qmp *q);
/*
 * Takes @arguments. Returns what QEMU returns, which the caller puts, or NULL; then
 * qmp_gone() tells whether it has ended, and if not, it was said what QEMU minds.
 */
struct json_object *qmp_do(struct qmp *q, const char *command,
			   struct json_object *arguments);
bool qmp_gone(const struct qmp *q);

/* --- machine.c */

/* What is to be known of it, and whose process it is. NULL: said why it cannot be saved. */
struct json_object *machine_describe(struct qmp *q, struct ucred *of);
/* Has the guest moved its memory since? */
bool machine_has_moved(struct qmp *q, struct json_object *guest);

/* --- iommu.c */

/* Do devices of the IOAS find all memory of the guest where the guest has it? */
bool iommu_maps_all(int iommufd, uint32_t ioas, struct json_object *guest);
/*
 * Is that true of one of its IOAS? In each of which it is, unmaps all else, if @unmap: BARs
 * of devices, which nobody can hand over. 0 or -ENOENT.
 */
int iommu_check(int iommufd, struct json_object *guest, bool unmap);

/* --- device.c */

struct device {
	int irq; /* of VFIO: which interrupts are armed, if any are */
	bool master; /* may it write to memory? */
	bool flr; /* has it a reset by function? */
};

/* -EIO: it does not answer, or is not bound */
int device_look(int fd, struct device *d);

/* --- guest.c: what is told to the next kernel's restore, in JSON */

/*
 * {"version": 1, "qemu": release, "exe", "argv": [...], "cwd",
 *  "ranges": [{"at", "size", "name", "offset", "rom"}...],
 *  "memory": [{"name", "id", "token"}...],
 *  "devices": [{"name", "token", "irq", "master", "events": [{"name", "id"}...]}...],
 *  "iommufd": name}
 */
struct json_object *guest_new(const char *qemu, int pid);
/* The memory that devices of the guest see, by `info mtree -f`. 0, or -EBADMSG: said */
int guest_add_ranges(struct json_object *guest, const char *mtree);
int guest_write(struct json_object *guest, const char *path,
		const struct ucred *of);
struct json_object *guest_read(const char *path);
struct json_object *guest_from_fd(int fd);
int guest_to_fd(struct json_object *guest);
const char *text_of(struct json_object *o, const char *key);
uint64_t number_of(struct json_object *o, const char *key);
struct json_object *array_of(struct json_object *o, const char *key);

enum {
	TOKEN_GUEST = 1,
	TOKEN_MAIN = 2,
	TOKEN_MEMORY = 0x100,
	TOKEN_DEVICE = 0x1000
};

/* --- the commands: each returns 0, or a negative errno after it has said why */

int save(const char *name, const char *socket);
int keep(const char *name);
int resume(const char *name);
int restore(const char *name);

/* Can it be executed here? Said if not. */
int guest_check_exe(struct json_object *guest);
/*
 * Becomes the QEMU of @guest, which reads @stream. This process has the only descriptors of
 * what the guest is made of: it tries again and again, and says why.
 */
__attribute__((noreturn)) void become_qemu(struct json_object *guest,
					   int stream, const char *incoming);

#endif /* BROKER_H */
