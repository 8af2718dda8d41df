"Small drawn slides for tests: how they are cut, and pictures of them in a folder"
from PIL import Image
from pathlearn.synthetic import synthetic_slide

GRID = dict(px=32, mpp=1.75, slide_mpp=1.75)
LINE = '--px 32 --mpp 1.75 --slide-mpp 1.75'.split()

def draw(folder, names, size=256):
    folder.mkdir(parents=True, exist_ok=True)
    for i,name in enumerate(names): Image.fromarray(synthetic_slide(size, seed=i+1)[0].permute(1,2,0).numpy()).save(folder/f'{name}.png')
    return folder
