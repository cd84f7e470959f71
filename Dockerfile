FROM condaforge/miniforge3:latest
LABEL io.github.snakemake.containerized="true"
LABEL io.github.snakemake.conda_env_hash="55c0edd45a4ad38ce51a572c3266346599f968aa4ad787bcadc1e9f39b68d9c8"
# Conda environment:
#   source: envs/data.yaml
#   prefix: /conda-envs/bf8fddaa1938dfbee609b48822f3ab81
#   # Manifests, image caches, duplicates, skin tone, folds, external sets.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python >=3.11,<3.13
#     - pip >=24.2,<27
#     - numpy >=2.3.4,<3
#     - pandas >=3.0.3,<4
#     - pyarrow >=25,<27
#     - pillow >=12,<14
#     - scipy >=1.16,<2
#     - scikit-learn >=1.8,<2
#     - pydantic >=2.13.4,<3
#     - pyyaml >=6.0.3,<7
#     - faiss-cpu >=1.14.3,<2
#     - pip:
#         - pdqhash >=0.2.8,<0.3 # not on conda-forge
RUN mkdir -p /conda-envs/bf8fddaa1938dfbee609b48822f3ab81
COPY envs/data.yaml /conda-envs/bf8fddaa1938dfbee609b48822f3ab81/environment.yaml
# Conda environment:
#   source: envs/report.yaml
#   prefix: /conda-envs/20d878d0a50937a9aead72b1a3c96228
#   # Metrics, statistics, tables, figures, report.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python >=3.11,<3.13
#     - numpy >=2.3.4,<3
#     - pandas >=3.0.3,<4
#     - pyarrow >=25,<27
#     - scipy >=1.16,<2
#     - scikit-learn >=1.8,<2
#     - fairlearn >=0.12,<0.16
#     - pydantic >=2.13.4,<3
#     - pyyaml >=6.0.3,<7
#     - matplotlib-base >=3.10.7,<4
#     - seaborn-base >=0.13.2,<0.14
#     - great_tables >=0.22,<2
RUN mkdir -p /conda-envs/20d878d0a50937a9aead72b1a3c96228
COPY envs/report.yaml /conda-envs/20d878d0a50937a9aead72b1a3c96228/environment.yaml
# Conda environment:
#   source: envs/torch.yaml
#   prefix: /conda-envs/4585d34923e70f07e39cd43d6604ce81
#   # Training, importances, debiasing, scoring. On a machine with a GPU conda-forge resolves a CUDA build.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python >=3.11,<3.13
#     - pytorch >=2.13,<2.14
#     - torchvision >=0.28,<0.29
#     - numpy >=2.3.4,<3
#     - pandas >=3.0.3,<4
#     - pyarrow >=25,<27
#     - scipy >=1.16,<2
#     - scikit-learn >=1.8,<2 # which groups are compared, by their AUC with its interval
#     - fairlearn >=0.12,<0.16
#     - pydantic >=2.13.4,<3
#     - safetensors >=0.7,<0.9
#     - tqdm >=4.67.2,<5
#     - matplotlib-base >=3.10.7,<4 # arrays and drawing of a figure share a file
RUN mkdir -p /conda-envs/4585d34923e70f07e39cd43d6604ce81
COPY envs/torch.yaml /conda-envs/4585d34923e70f07e39cd43d6604ce81/environment.yaml

RUN conda env create --prefix /conda-envs/bf8fddaa1938dfbee609b48822f3ab81 --file /conda-envs/bf8fddaa1938dfbee609b48822f3ab81/environment.yaml && \
    conda env create --prefix /conda-envs/20d878d0a50937a9aead72b1a3c96228 --file /conda-envs/20d878d0a50937a9aead72b1a3c96228/environment.yaml && \
    conda env create --prefix /conda-envs/4585d34923e70f07e39cd43d6604ce81 --file /conda-envs/4585d34923e70f07e39cd43d6604ce81/environment.yaml && \
    conda clean --all -y
