// SPDX-License-Identifier: GPL-2.0
/*
 * What devices find at the addresses of a guest, in the address spaces (IOAS) of an
 * iommufd. Nobody tells what is mapped there. But a copy of a range works only if all
 * of it is.
 */
#include <errno.h>
#include <linux/iommufd.h>
#include <sys/ioctl.h>

#include "broker.h"

#define MAX_OBJECT 1024 /* of an iommufd, in which IOAS come early */

bool iommu_maps_all(int iommufd, uint32_t ioas, struct json_object *guest)
{
	struct json_object *all = array_of(guest, "ranges");
	size_t n, nr = json_object_array_length(all);
	struct iommu_ioas_alloc scratch = { .size = sizeof(scratch) };
	struct iommu_destroy destroy = { .size = sizeof(destroy) };
	bool mapped = true;

	if (ioctl(iommufd, IOMMU_IOAS_ALLOC, &scratch))
		return false;
	for (n = 0; n < nr && mapped; n++) {
		struct json_object *o = json_object_array_get_idx(all, n);
		struct iommu_ioas_copy copy = {
			.size = sizeof(copy),
			.flags = IOMMU_IOAS_MAP_FIXED_IOVA |
				 IOMMU_IOAS_MAP_READABLE,
			.dst_ioas_id = scratch.out_ioas_id,
			.src_ioas_id = ioas,
			.src_iova = number_of(o, "at"),
			.dst_iova = number_of(o, "at"),
			.length = number_of(o, "size"),
		};

		mapped = !ioctl(iommufd, IOMMU_IOAS_COPY, &copy);
	}
	destroy.id = scratch.out_ioas_id;
	ioctl(iommufd, IOMMU_DESTROY, &destroy);
	return mapped;
}

static void unmap_gaps(int iommufd, uint32_t ioas, struct json_object *guest)
{
	struct json_object *ranges = array_of(guest, "ranges");
	size_t n, nr = json_object_array_length(ranges);
	struct iommu_ioas_unmap gap = {
		.size = sizeof(gap),
		.ioas_id = ioas,
	};

	for (n = 0; n <= nr; n++) {
		struct json_object *r =
			n < nr ? json_object_array_get_idx(ranges, n) : NULL;
		uint64_t next = r ? number_of(r, "at") : 1ULL << 52;

		gap.length = next - gap.iova;
		if (gap.length)
			ioctl(iommufd, IOMMU_IOAS_UNMAP, &gap);
		gap.iova = r ? next + number_of(r, "size") : next;
	}
}

int iommu_check(int iommufd, struct json_object *guest, bool unmap)
{
	struct iommu_ioas_iova_ranges probe = { .size = sizeof(probe) };
	unsigned int found = 0;

	for (probe.ioas_id = 1; probe.ioas_id < MAX_OBJECT; probe.ioas_id++) {
		probe.num_iovas = 0;
		if (ioctl(iommufd, IOMMU_IOAS_IOVA_RANGES, &probe) &&
		    errno != EMSGSIZE)
			continue;
		if (!iommu_maps_all(iommufd, probe.ioas_id, guest))
			continue;
		if (unmap)
			unmap_gaps(iommufd, probe.ioas_id, guest);
		found++;
	}
	return found ? 0 : -ENOENT;
}
