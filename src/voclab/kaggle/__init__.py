"""The competition's submission: encode, write, merge, check, score and send it."""

from voclab.kaggle.codec import (
    decode_segmentation,
    encode_classification,
    encode_segmentation,
    rle_decode,
    rle_encode,
)
from voclab.kaggle.push import push_submission
from voclab.kaggle.score import Score, score_submission
from voclab.kaggle.table import Report, check_submission, merge_submissions, write_submission, write_truth

__all__ = [
    "Report",
    "Score",
    "check_submission",
    "decode_segmentation",
    "encode_classification",
    "encode_segmentation",
    "merge_submissions",
    "push_submission",
    "rle_decode",
    "rle_encode",
    "score_submission",
    "write_submission",
    "write_truth",
]
