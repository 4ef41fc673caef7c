# with scikit-learn, numpy
import numpy as np
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris, make_regression
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, export_text
x, y = load_iris(return_X_y=True)
a, b, c, d = train_test_split(x, y, test_size=0.3, random_state=0, stratify=y)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(a, c)
print(x.shape, accuracy_score(d, model.predict(b)) > 0.9, confusion_matrix(d, model.predict(b)).trace() >= 40, model.predict([[5, 3.5, 1.5, 0.2]]).tolist())
print(PCA(2).fit(x).explained_variance_ratio_.round(5).tolist(), sorted(np.bincount(KMeans(3, n_init=10, random_state=0).fit_predict(x)).tolist()))
print(cross_val_score(DecisionTreeClassifier(random_state=0), x, y, cv=5).mean() > 0.9, RandomForestClassifier(20, random_state=0).fit(a, c).score(b, d) > 0.9)
u, v, w = make_regression(50, 3, noise=0.0, coef=True, random_state=1); print(np.allclose(LinearRegression().fit(u, v).coef_, w), w.round(5).tolist())
print(export_text(DecisionTreeClassifier(max_depth=1, random_state=0).fit(x[:, 2:3], y == 0)))
t = TfidfVectorizer().fit(["a cat sat", "the dog sat", "the cat ran"]); print(t.get_feature_names_out().tolist(), t.transform(["cat dog"]).toarray().round(5).tolist(), OneHotEncoder().fit_transform([["a"], ["b"], ["a"]]).toarray().tolist())
