FROM condaforge/miniforge3:latest
LABEL io.github.snakemake.containerized="true"
LABEL io.github.snakemake.conda_env_hash="611dd13a8b59b460507a001aa929dcfcbb3d34da1fe7784973b734999c467e07"
# Conda environment:
#   source: envs/data.yaml
#   prefix: /conda-envs/4ec5b5c4cb8cfd3f4a718e9a1ded5f97
#   # Manifests, image caches, duplicates, skin tone, folds, external sets.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - numpy=2.4.6
#     - pandas=3.1.1
#     - pyarrow=26.0.1
#     - pillow=13.0.0
#     - scipy=1.17.1
#     - scikit-learn=1.9.1
#     - pydantic=2.14.3
#     - pyyaml=6.0.3
#     - pdqhash=0.2.8
#     - faiss-cpu=1.15.1
RUN mkdir -p /conda-envs/4ec5b5c4cb8cfd3f4a718e9a1ded5f97
COPY envs/data.yaml /conda-envs/4ec5b5c4cb8cfd3f4a718e9a1ded5f97/environment.yaml
# Conda environment:
#   source: envs/report.yaml
#   prefix: /conda-envs/cd22a96e0554f4aadbcaadb57cdffe19
#   # Metrics, statistics, tables, figures, report.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - numpy=2.4.6
#     - pandas=3.1.1
#     - pyarrow=26.0.1
#     - scipy=1.17.1
#     - scikit-learn=1.9.1
#     - fairlearn=0.15.0
#     - pydantic=2.14.3
#     - pyyaml=6.0.3
#     - matplotlib=3.11.2
#     - seaborn=0.13.2
#     - great-tables=1.1.0
#     - pillow=13.0.0
#     - pdqhash=0.2.8
RUN mkdir -p /conda-envs/cd22a96e0554f4aadbcaadb57cdffe19
COPY envs/report.yaml /conda-envs/cd22a96e0554f4aadbcaadb57cdffe19/environment.yaml
# Conda environment:
#   source: envs/torch.yaml
#   prefix: /conda-envs/ab3ea68edf0dc5766c861d0964080681
#   # Training, importances, debiasing, scoring. On a machine with a GPU conda-forge resolves a CUDA build.
#   channels:
#     - conda-forge
#     - nodefaults
#   dependencies:
#     - python=3.11
#     - pytorch=2.13.0
#     - torchvision=0.28.0
#     - numpy=2.4.6
#     - pandas=3.1.1
#     - pyarrow=26.0.1
#     - pillow=13.0.0
#     - scipy=1.17.1
#     - scikit-learn=1.9.1
#     - pydantic=2.14.3
#     - pyyaml=6.0.3
#     - pdqhash=0.2.8
#     - safetensors=0.8.0
#     - tqdm=4.70.1
RUN mkdir -p /conda-envs/ab3ea68edf0dc5766c861d0964080681
COPY envs/torch.yaml /conda-envs/ab3ea68edf0dc5766c861d0964080681/environment.yaml

RUN conda env create --prefix /conda-envs/4ec5b5c4cb8cfd3f4a718e9a1ded5f97 --file /conda-envs/4ec5b5c4cb8cfd3f4a718e9a1ded5f97/environment.yaml && \
    conda env create --prefix /conda-envs/cd22a96e0554f4aadbcaadb57cdffe19 --file /conda-envs/cd22a96e0554f4aadbcaadb57cdffe19/environment.yaml && \
    conda env create --prefix /conda-envs/ab3ea68edf0dc5766c861d0964080681 --file /conda-envs/ab3ea68edf0dc5766c861d0964080681/environment.yaml && \
    conda clean --all -y
