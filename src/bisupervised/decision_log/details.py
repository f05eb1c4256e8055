"""What a gateway knows of an outcome beyond the decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NAN: Final = float("nan")


@dataclass(frozen=True, slots=True)
class Details:
    """One request's further columns of the decision log. Seconds, currency units; NaN and None: not known."""

    sequence: int  #: the request's number (see `Sequences`); one row each
    cascade: str  #: the virtual model's name
    mode: str  #: `observe`, `enforce`, `remote_only`, `forced_local` or `forced_remote`
    #: what the client received: `local`, `remote`, `local_untrusted`, `default`, `call`, `queue`, `error` or `none`
    served: str
    status: int  #: of HTTP; 499: the client went away
    thresholds_id: str | None  #: those that decided; None: those of the log
    key: str | None  #: the name of the client's key, never the key; None: it had none
    streamed: bool = False
    total_s: float = NAN  #: from the request's arrival to the end of its reply
    first_token_s: float = NAN  #: from the request's arrival to the first token sent to the client
    local_prompt_tokens: float = NAN
    local_completion_tokens: float = NAN
    remote_prompt_tokens: float = NAN
    remote_completion_tokens: float = NAN
    extra_remote_calls: int = 0  #: that no verdict caused: speculative ones, those of observe mode
    extra_cost: float = 0.0  #: of those, and of self-verification
    cost_bound: float = 0.0  #: the most that the parts of the cost that are not known may be; 0: all is known
    unscorable: str | None = None  #: why no supervisor could score it: `tools`, `image`, `no_logprobs`, …
    store_input: bool = True  #: False: this input is not stored, even if the log stores inputs
