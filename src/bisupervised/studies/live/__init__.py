"""The paper's case studies made anew: real models, real inputs, real calls; from sources to claims."""
