"""A server of the KServe SDK: `python open_inference_kserve.py PORT`, in an environment that has `kserve`.

`linear` gives class probabilities of x·W, `logits` what they are made of, `words` labels and confidences of texts.
"""

import sys

import numpy as np
from kserve import InferOutput, InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_response

WEIGHTS = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 3.0]], dtype=np.float32)


def tensor(name, datatype, array):
    output = InferOutput(name=name, shape=list(array.shape), datatype=datatype)
    output.data = array
    return output


class Linear(Model):
    def __init__(self, name, softmax):
        super().__init__(name)
        self.softmax = softmax
        self.ready = True

    def predict(self, payload, headers=None):
        logits = payload.inputs[0].as_numpy() @ WEIGHTS
        if self.softmax:
            logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return get_predict_response(payload, logits, self.name)


class Words(Model):
    def __init__(self, name):
        super().__init__(name)
        self.ready = True

    def predict(self, payload, headers=None):
        words = [one.decode() if isinstance(one, bytes) else one for one in payload.inputs[0].as_numpy().ravel()]
        labels = np.array(["positive" if "good" in one else "négative" for one in words], dtype=object)
        confidences = np.array([0.5 + len(one) / 100 for one in words])
        if headers and "authorization" in headers:
            labels = np.array([headers["authorization"]] * len(words), dtype=object)
        return InferResponse(
            response_id=payload.id or "none",
            model_name=self.name,
            infer_outputs=[tensor("label", "BYTES", labels), tensor("confidence", "FP64", confidences)],
            requested_outputs=payload.request_outputs,
            use_binary_outputs=payload.use_binary_outputs,
        )


if __name__ == "__main__":
    server = ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1, access_log_format=None)
    server.start([Linear("linear", softmax=True), Linear("logits", softmax=False), Words("words")])
