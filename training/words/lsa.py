"""A start for the token table: latent semantic analysis (Deerwester et al. 1990) of WordNet."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.sparse import csr_array
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer
from torch import Tensor

_STD = 0.02  # of CLIP's token table at its start


def start_from_lsa(table: Tensor, documents: Sequence[Sequence[int]], seed: int) -> None:
    """Fills the rows [vocabulary, w] of the tokens that occur, in place, by TF-IDF and a truncated
    singular value decomposition; each row gets the usual standard deviation.
    """
    counts = _counts(documents, len(table))
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    width = table.shape[1]
    svd = TruncatedSVD(width, n_iter=4, random_state=seed).fit(weighted)
    rows = torch.from_numpy(np.ascontiguousarray(svd.components_.T * svd.singular_values_))
    rows = rows.to(table.dtype)
    spread = rows.pow(2).mean(1, keepdim=True).sqrt()
    seen = torch.from_numpy(np.asarray(counts.sum(0)).ravel() > 0) & (spread[:, 0] > 1e-6)
    with torch.no_grad():
        table[seen] = _STD * (rows / spread)[seen]


def _counts(documents: Sequence[Sequence[int]], vocabulary: int) -> csr_array:
    """How often each token occurs [documents, vocabulary]."""
    tokens = np.concatenate([np.asarray(d, dtype=np.int64) for d in documents])
    rows = np.repeat(np.arange(len(documents)), [len(d) for d in documents])
    ones = np.ones(len(tokens))
    return csr_array((ones, (rows, tokens)), shape=(len(documents), vocabulary))
