/* SPDX-License-Identifier: MIT */
/* DMA, as maps use it: see dma.c. */
#ifndef KAS_DMA_H
#define KAS_DMA_H

#include "dispatch.h"

static inline struct dispatch kas_dma_dispatch(const struct kvmas_dma *dma, bool write)
{
	return (struct dispatch){
		.reader = dma->reader,
		.space = dma->space,
		.requester = dma->requester,
		.smm = dma->smm,
		.write = write,
	};
}

#endif
